#include "tools/registry_options.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <istream>
#include <iterator>

#include "common/log.h"
#include "tools/cli.h"

namespace obd::tools {
namespace {

using Texts = std::vector<std::string>;

constexpr std::array kSides = {RegistrySide::kCommon, RegistrySide::kSource, RegistrySide::kTarget};
constexpr size_t kMaxPasswordBytes = 64 << 10;
constexpr uint64_t kMaxRetries = 1000;
constexpr double kMaxRetryDelaySeconds = 3600;
constexpr const char* kAllowForeign = "allow-foreign-layers";

std::string prefix_of(RegistrySide side) {
  switch (side) {
    case RegistrySide::kSource:
      return "src-";
    case RegistrySide::kTarget:
      return "dest-";
    default:
      return "";
  }
}

bool is_set(const cxxopts::ParseResult& parsed, const std::string& name) {
  return parsed.count(name) != 0 && parsed[name].as<bool>();
}

std::string text_of(const cxxopts::ParseResult& parsed, const std::string& name) {
  return parsed.count(name) != 0 ? parsed[name].as<std::string>() : std::string();
}

Texts texts_of(const cxxopts::ParseResult& parsed, const std::string& name) {
  return parsed.count(name) != 0 ? parsed[name].as<Texts>() : Texts();
}

std::string read_password(std::istream& in) {
  std::string password;
  password.reserve(256);
  for (char c = 0; password.size() <= kMaxPasswordBytes && in.get(c);) password += c;
  if (password.size() > kMaxPasswordBytes) throw UsageError("the password on standard input is too long");
  if (password.ends_with('\n')) password.pop_back();
  if (password.ends_with('\r')) password.pop_back();
  if (password.empty()) throw UsageError("no password came on standard input");
  return password;
}

std::optional<registry::Credential> read_credential(const cxxopts::ParseResult& parsed,
                                                    const std::string& prefix, std::istream& in) {
  const std::string user = text_of(parsed, prefix + "username");
  const bool from_stdin = is_set(parsed, prefix + "password-stdin");
  if (user.empty()) {
    if (from_stdin) throw UsageError(fmt::format("--{0}password-stdin goes with --{0}username", prefix));
    return std::nullopt;
  }
  registry::Credential credential = parse_credential(user);
  if (from_stdin) {
    if (user.find(':') != std::string::npos) {
      throw UsageError(
          fmt::format("--{0}username has a password already: leave it out, or --{0}password-stdin", prefix));
    }
    credential.password = read_password(in);
  } else if (user.find(':') == std::string::npos) {
    throw UsageError(fmt::format(
        "--{0}username has no password: --{0}password-stdin reads one. For a login that is in an auth file "
        "leave out both",
        prefix));
  }
  return credential;
}

registry::TlsOptions::ClientCertificate parse_client_certificate(const std::string& text,
                                                                 const std::string& option) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == text.size()) {
    throw UsageError(fmt::format("--{} '{}' does not have the form CERT:KEY", option, printable(text)));
  }
  return {text.substr(0, colon), text.substr(colon + 1)};
}

registry::RetryPolicy read_retry_policy(const cxxopts::ParseResult& parsed) {
  const auto retries = parsed["retry"].as<uint64_t>();
  if (retries > kMaxRetries)
    throw UsageError(fmt::format("--retry {} is not within 0 to {}", retries, kMaxRetries));
  const auto seconds = parsed["retry-delay"].as<double>();
  if (!(seconds >= 0 && seconds <= kMaxRetryDelaySeconds)) {
    throw UsageError(
        fmt::format("--retry-delay {} is not within 0 to {} seconds", seconds, kMaxRetryDelaySeconds));
  }
  return {.tries = static_cast<int>(retries) + 1,
          .first_delay = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000))};
}

template <class T>
void join(std::vector<T>& own, const std::vector<T>& common) {
  own.insert(own.end(), common.begin(), common.end());
}

/// Where in an argument the value of -u, --username or --db-str begins; npos: nowhere, `next` says if in the
/// next one.
size_t value_position(std::string_view argument, bool& next) {
  next = false;
  if (argument.starts_with("--")) {
    for (const RegistrySide side : kSides) {
      const std::string name = "--" + prefix_of(side) + "username";
      if (argument == name) next = true;
      if (argument.starts_with(name + "=")) return name.size() + 1;
    }
    constexpr std::string_view kDatabase = "--db-str";
    if (argument == kDatabase) next = true;
    if (argument.starts_with("--db-str=")) return kDatabase.size() + 1;
    return std::string_view::npos;
  }
  // -u may end a group of letters, or have its value at once. What merely looks so loses nothing but its
  // looks.
  const size_t letter = argument.starts_with('-') ? argument.find('u') : std::string_view::npos;
  if (letter == std::string_view::npos) return letter;
  next = letter + 1 == argument.size();
  return next ? std::string_view::npos : letter + 1;
}

void hide_password(char* value) {
  if (char* colon = std::strchr(value, ':')) std::memset(colon + 1, '*', std::strlen(colon + 1));
}

}  // namespace

void add_registry_options(cxxopts::Options& options, const std::string& group, RegistrySide side) {
  const std::string prefix = prefix_of(side);
  const std::string of = side == RegistrySide::kSource   ? " of the source"
                         : side == RegistrySide::kTarget ? " of the target"
                                                         : "";
  const auto words = [] { return cxxopts::value<std::string>(); };
  const auto list = [] { return cxxopts::value<Texts>(); };
  const auto flag = [] { return cxxopts::value<bool>()->default_value("false"); };
  const std::string letter = side == RegistrySide::kCommon ? "u," : "";
  options.add_options(group)(letter + prefix + "username", "credentials for the registry" + of, words(),
                             "USER[:PASSWORD]")(prefix + "password-stdin",
                                                "take the password from standard input",
                                                flag())(prefix + "plain", "HTTP instead of HTTPS", flag())(
      prefix + "cert-dir", "certificates as Docker lays them out: *.crt, *.cert with *.key; may be repeated",
      list(), "DIR")(prefix + "root-ca", "trust this authority too; may be repeated", list(), "FILE")(
      prefix + "client-cert", "certificate to show to the registry; may be repeated", list(), "CERT:KEY")(
      prefix + "insecure", "trust any certificate, and try plain HTTP too", flag());
  if (side == RegistrySide::kCommon) {
    options.add_options(group)("retry",
                               "how often a request that failed for the moment is repeated without progress",
                               cxxopts::value<uint64_t>()->default_value("4"),
                               "N")("retry-delay", "seconds before the first repetition; doubles each time",
                                    cxxopts::value<double>()->default_value("0.5"), "SECONDS");
  }
  if (side == RegistrySide::kSource) {
    options.add_options(group)(
        kAllowForeign, "fetch foreign layers from the URLs that the image names, without any login", flag());
  }
}

registry::RepositoryOptions read_registry_options(const cxxopts::ParseResult& parsed, RegistrySide side,
                                                  std::istream& in) {
  const std::string prefix = prefix_of(side);
  registry::RepositoryOptions options;
  options.plain_http = is_set(parsed, prefix + "plain");
  options.tls.insecure = is_set(parsed, prefix + "insecure");
  for (const std::string& path : texts_of(parsed, prefix + "cert-dir"))
    options.tls.cert_dirs.emplace_back(path);
  for (const std::string& path : texts_of(parsed, prefix + "root-ca"))
    options.tls.root_cas.emplace_back(path);
  for (const std::string& pair : texts_of(parsed, prefix + "client-cert")) {
    options.tls.client_certificates.push_back(parse_client_certificate(pair, prefix + "client-cert"));
  }
  options.credential = read_credential(parsed, prefix, in);
  if (side == RegistrySide::kCommon) options.retry = read_retry_policy(parsed);
  return options;
}

std::unique_ptr<registry::ForeignBlobs> open_foreign_blobs(const cxxopts::ParseResult& parsed,
                                                           const registry::RepositoryOptions& options) {
  if (!is_set(parsed, kAllowForeign)) return nullptr;
  return std::make_unique<registry::ForeignBlobs>(options);
}

void check_password_stdin(const cxxopts::ParseResult& parsed) {
  int readers = 0;
  for (const RegistrySide side : kSides)
    readers += is_set(parsed, prefix_of(side) + "password-stdin") ? 1 : 0;
  if (readers > 1) throw UsageError("only one password can come on standard input");
}

void warn_of_passwords(const cxxopts::ParseResult& parsed) {
  for (const RegistrySide side : kSides) {
    const std::string name = prefix_of(side) + "username";
    if (text_of(parsed, name).find(':') == std::string::npos) continue;
    log::warn(
        "--{}: a password on the command line can be seen by other users of this machine for a moment, and "
        "stays in the shell's history; use --{}password-stdin or an auth file",
        name, prefix_of(side));
  }
}

registry::RepositoryOptions merge_registry_options(const registry::RepositoryOptions& common,
                                                   registry::RepositoryOptions own, bool common_credential) {
  own.plain_http |= common.plain_http;
  own.tls.insecure |= common.tls.insecure;
  join(own.tls.cert_dirs, common.tls.cert_dirs);
  join(own.tls.root_cas, common.tls.root_cas);
  join(own.tls.client_certificates, common.tls.client_certificates);
  if (!own.credential && common_credential) own.credential = common.credential;
  own.retry = common.retry;
  own.work_directory = common.work_directory;
  own.spool_memory_bytes = common.spool_memory_bytes;
  return own;
}

void hide_passwords(std::span<char*> arguments) {
  bool next = false;
  for (char* argument : arguments) {
    if (next) {
      hide_password(argument);
      next = false;
      continue;
    }
    const size_t value = value_position(argument, next);
    if (value != std::string_view::npos) hide_password(argument + value);
  }
}

}  // namespace obd::tools
