#include "tools/obdctl_operands.h"

#include "common/spool.h"
#include "tools/registry_options.h"

namespace obd::tools {
namespace {

constexpr uint64_t kSpoolMemoryBytes = 8 << 20;

std::string option_text(const cxxopts::ParseResult& parsed, const std::string& name) {
  return parsed.count(name) != 0 ? parsed[name].as<std::string>() : std::string();
}

std::string parse_reference(const cxxopts::ParseResult& parsed) {
  const std::string tag = option_text(parsed, "input-tag");
  const std::string digest = option_text(parsed, "input-digest");
  if (tag.empty() == digest.empty()) {
    throw UsageError("an image needs --input-tag (-i) or --input-digest (-g), and only one of them");
  }
  if (digest.empty()) return tag;
  if (!Digest::is_valid(digest)) throw UsageError("--input-digest has the form sha256:<64 hex digits>");
  return digest;
}

}  // namespace

void add_operand_options(cxxopts::Options& options, const char* files_help) {
  const auto text = [] { return cxxopts::value<std::string>(); };
  options.add_options("Image")("r,repository", kRepositoryHelp, text(), "REPO")(
      "i,input-tag", "Tag of the image", text(), "TAG")("g,input-digest", "Digest of the image", text(),
                                                        "DIGEST");
  add_registry_options(options, "Registry", RegistrySide::kCommon);
  options.add_options("Files")("files", files_help, cxxopts::value<std::vector<std::string>>(), "FILE...");
  options.parse_positional({"files"});
  options.positional_help("[FILE...]");
}

registry::RepositoryOptions with_temporary_files(registry::RepositoryOptions options) {
  options.work_directory = std::filesystem::temp_directory_path();
  return options;
}

Operands parse_operands(const cxxopts::ParseResult& parsed, std::istream& in) {
  Operands operands;
  if (parsed.count("files") != 0) {
    for (const std::string& file : parsed["files"].as<std::vector<std::string>>()) {
      operands.files.emplace_back(file);
    }
  }
  const std::string where = option_text(parsed, "repository");
  if (where.empty() == operands.files.empty()) {
    throw UsageError("give either an image (--repository and --input-tag or --input-digest) or files");
  }
  if (where.empty()) return operands;
  operands.reference = parse_reference(parsed);
  warn_of_passwords(parsed);
  operands.repository = registry::open_repository(
      where, with_temporary_files(read_registry_options(parsed, RegistrySide::kCommon, in)));
  return operands;
}

bool is_local(const registry::Repository& repository) {
  return registry::place_of(repository.name()) != registry::Place::kRegistry;
}

std::shared_ptr<const ByteSource> fetch_blob(registry::Repository& repository, const registry::BlobId& blob,
                                             std::stop_token stop) {
  if (is_local(repository)) return repository.open_blob(blob);
  auto spool = std::make_shared<Spool>(
      Spool::Options{.directory = std::filesystem::temp_directory_path(), .memory_limit = kSpoolMemoryBytes});
  repository.pull_blob(
      blob, [&](std::span<const std::byte> bytes) { spool->append(bytes); }, stop);
  return spool;
}

}  // namespace obd::tools
