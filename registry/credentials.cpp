#include "registry/credentials.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>

#include "common/error.h"
#include "common/json.h"
#include "common/log.h"
#include "registry/challenge.h"

namespace obd::registry {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFileBytes = 4 << 20;
constexpr std::string_view kHub = "docker.io";
constexpr std::string_view kHubKey = "https://index.docker.io/v1/";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

/// None if there is no such file.
std::optional<std::string> read_file(const AuthFile& file) {
  errno = 0;
  std::ifstream in(file.path, std::ios::binary);
  if (!in) {
    if (!file.required && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
    throw UsageError(IoError::from_errno(file.path.string(), errno).what());
  }
  std::string text(kMaxFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) throw UsageError(IoError::from_errno(file.path.string(), errno).what());
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxFileBytes) {
    throw UsageError(fmt::format("{}: more than {} bytes are too many for a file of logins",
                                 file.path.string(), kMaxFileBytes));
  }
  return text;
}

/// The host is written in more ways than one.
std::string host_in_normal_form(std::string_view host) {
  if (host == "index.docker.io" || host == "registry-1.docker.io") return std::string(kHub);
  return std::string(host);
}

/// What a key of `auths` or `credHelpers` stands for: "docker.io", "quay.io/acme/app".
std::string key_in_normal_form(std::string_view key, AuthFile::Form form) {
  bool host_only = form == AuthFile::Form::kDocker;
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (!key.starts_with(scheme)) continue;
    key.remove_prefix(scheme.size());
    host_only = true;  // a form of old, with the path of the registry's API behind the host
  }
  const size_t slash = std::min(key.find('/'), key.size());
  const std::string host = host_in_normal_form(key.substr(0, slash));
  return host_only ? host : host + std::string(key.substr(slash));
}

/// "quay.io/acme/app", "quay.io/acme", "quay.io"
std::vector<std::string> candidates_for(const RepositoryName& repository, AuthFile::Form form) {
  const std::string host = repository.host();
  std::vector<std::string> candidates;
  if (form == AuthFile::Form::kContainers) {
    for (std::string key = repository.display; key.size() > host.size(); key.resize(key.rfind('/'))) {
      candidates.push_back(key);
    }
  }
  candidates.push_back(host);
  return candidates;
}

/// One file, parsed. Its secrets are only looked at where they are asked for.
class LoginFile {
 public:
  LoginFile(const AuthFile& file, const std::string& text) : file_(file) {
    try {
      document_ = parse_json(text, file.path.string());
    } catch (const DataError& error) {
      throw UsageError(error.what());
    }
    if (!document_.is_object()) throw malformed("a JSON object is expected");
  }

  /// Empty if none is meant for this host.
  std::string helper_for(const std::string& host) const {
    const Json& helpers = section("credHelpers");
    for (const auto& [key, helper] : helpers.items()) {
      if (key_in_normal_form(key, AuthFile::Form::kDocker) != host) continue;
      if (!helper.is_string()) throw malformed(fmt::format("credHelpers: {} has no name of a helper", host));
      return helper.get<std::string>();
    }
    return {};
  }

  std::string store() const { return text_field(document_, "credsStore"); }

  std::optional<Credential> login_for(const RepositoryName& repository) const {
    const Json& auths = section("auths");
    for (const std::string& candidate : candidates_for(repository, file_.form)) {
      // A key in the form that is written today counts before those of old.
      for (const std::string& exact : {candidate == kHub ? std::string(kHubKey) : candidate, std::string()}) {
        for (const auto& [key, entry] : auths.items()) {
          if (exact.empty() ? key_in_normal_form(key, file_.form) != candidate : key != exact) continue;
          if (auto login = login_of(key, entry)) return login;
        }
      }
    }
    return std::nullopt;
  }

 private:
  UsageError malformed(std::string_view what) const {
    return UsageError(fmt::format("{}: {}", file_.path.string(), what));
  }

  const Json& section(const char* name) const {
    static const Json kEmpty = Json::object();
    const auto found = document_.find(name);
    if (found == document_.end() || found->is_null()) return kEmpty;
    if (!found->is_object()) throw malformed(fmt::format("'{}' is not a JSON object", name));
    return *found;
  }

  /// None for an entry that is there only to say that a credential store knows the host.
  std::optional<Credential> login_of(const std::string& key, const Json& entry) const {
    Credential login{.user = text_field(entry, "username"),
                     .password = text_field(entry, "password"),
                     .identity_token = text_field(entry, "identitytoken"),
                     .registry_token = text_field(entry, "registrytoken")};
    if (const std::string encoded = text_field(entry, "auth"); !encoded.empty()) {
      const auto decoded = base64_decode(encoded);
      const size_t colon = decoded ? decoded->find(':') : std::string::npos;
      if (colon == std::string::npos) {
        throw malformed(
            fmt::format("the entry for {} has an 'auth' that is not USER:PASSWORD in base64", key));
      }
      login.user = decoded->substr(0, colon);
      login.password = decoded->substr(colon + 1);
      login.password.resize(
          std::min(login.password.find('\0'), login.password.size()));  // Docker pads with them
    }
    const bool empty = login.registry_token.empty() && login.identity_token.empty() && login.user.empty();
    return empty ? std::nullopt : std::optional(std::move(login));
  }

  const AuthFile& file_;
  Json document_;
};

std::optional<Credential> ask_store(const std::string& store, const std::string& server, const AuthFile& file,
                                    const std::stop_token& stop, const HelperLimits& limits) {
  try {
    return ask_credential_helper(store, server, stop, limits);
  } catch (const Error& error) {
    log::warn("{}: its credsStore '{}' gave no credential for {}: {}", file.path.string(),
              store.substr(0, 100), server, error.what());
    return std::nullopt;
  }
}

std::optional<Credential> find_in_file(const RepositoryName& repository, const AuthFile& file,
                                       const std::string& text, const std::stop_token& stop,
                                       const HelperLimits& limits) {
  const LoginFile logins(file, text);
  const std::string host = repository.host();
  const std::string server = host == kHub ? std::string(kHubKey) : host;
  if (const std::string helper = logins.helper_for(host); !helper.empty()) {
    try {
      if (auto found = ask_credential_helper(helper, server, stop, limits)) return found;
    } catch (Error& error) {
      error.add_context(file.path.string());
      throw;
    }
  }
  if (auto found = logins.login_for(repository)) return found;
  if (const std::string store = logins.store(); !store.empty()) {
    return ask_store(store, server, file, stop, limits);
  }
  return std::nullopt;
}

}  // namespace

std::vector<AuthFile> auth_files_of_environment() {
  using Form = AuthFile::Form;
  const std::string home = environment("HOME");
  const auto directory = [&](const char* variable, std::string_view below_home) -> fs::path {
    if (const std::string given = environment(variable); !given.empty()) return given;
    return home.empty() || below_home.empty() ? fs::path() : fs::path(home) / below_home;
  };
  std::vector<AuthFile> files;
  const auto add = [&](const fs::path& where, std::string_view name, Form form) {
    if (!where.empty()) files.push_back({where / name, form});
  };
  if (const std::string named = environment("REGISTRY_AUTH_FILE"); !named.empty()) {
    files.push_back({named, Form::kContainers, true});
  }
  add(directory("XDG_RUNTIME_DIR", ""), "containers/auth.json", Form::kContainers);
  add(directory("XDG_CONFIG_HOME", ".config"), "containers/auth.json", Form::kContainers);
  add(directory("DOCKER_CONFIG", ".docker"), "config.json", Form::kDocker);
  return files;
}

std::optional<Credential> find_credential(const RepositoryName& repository,
                                          const std::vector<AuthFile>& files, const std::stop_token& stop,
                                          const HelperLimits& limits) {
  for (const AuthFile& file : files) {
    const auto text = read_file(file);
    if (!text || text->find_first_not_of(" \t\r\n") == std::string::npos) continue;  // logged out of all
    if (auto found = find_in_file(repository, file, *text, stop, limits)) {
      log::debug("credential registry={} file={}", repository.host(), file.path.string());
      return found;
    }
  }
  return std::nullopt;
}

}  // namespace obd::registry
