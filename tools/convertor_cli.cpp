#include "tools/convertor_cli.h"

#include <fmt/format.h>
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>

#include "blockfs/ext4/capacity.h"
#include "convertor/tag_converter.h"
#include "tools/convertor_report.h"
#include "tools/progress_view.h"
#include "tools/registry_options.h"

namespace obd::tools {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxThreads = 1024;
constexpr uint64_t kMinMetadataBudgetMib = 1;
constexpr uint64_t kMaxRetries = 1000;
constexpr double kMaxRetryDelaySeconds = 3600;

constexpr const char* kExamples = R"(
Examples:
  convertor -r localhost:5000/acme/app -i 1.4 -o 1.4_obd --plain
  convertor -r registry.example.com/acme/app -i 1.4 -o 1.4_obd --oci -u user --password-stdin < password
  convertor -r quay.io/acme/app -i 1.4 --target-repository registry.example.com/obd/app -o 1.4
  convertor -r oci:./images -i debian -o debian_obd --oci --vsize 16

Exit codes: 0 done, 1 internal error, 2 usage, 3 malformed image or blob, 4 input/output, 5 network,
            6 credentials, 8 something is full, 130 interrupted, 143 terminated.
)";

std::string text(const cxxopts::ParseResult& parsed, const char* name) {
  return parsed.count(name) > 0 ? parsed[name].as<std::string>() : std::string();
}

uint64_t number(const cxxopts::ParseResult& parsed, const char* name, uint64_t least, uint64_t most) {
  const auto value = parsed[name].as<uint64_t>();
  if (value < least || value > most) {
    throw UsageError(fmt::format("--{} {} is not within {} to {}", name, value, least, most));
  }
  return value;
}

/// What the command line asks for, checked.
struct Request {
  std::string source_name;
  std::string target_name;
  std::string reference;
  std::optional<std::string> output_tag;
  registry::RepositoryOptions source;
  registry::RepositoryOptions target;
  convertor::ConvertOptions convert;
  size_t threads = 1;
  ProgressMode progress = ProgressMode::kAuto;
  fs::path metrics;
};

std::string input_reference(const cxxopts::ParseResult& parsed) {
  const std::string tag = text(parsed, "input-tag");
  const std::string digest = text(parsed, "input-digest");
  if (tag.empty() == digest.empty()) {
    throw UsageError("give one of --input-tag (-i) and --input-digest (-g)");
  }
  if (!digest.empty()) {
    if (!Digest::is_valid(digest)) throw UsageError("--input-digest has the form sha256:<64 hex digits>");
    return digest;
  }
  if (!registry::is_valid_tag(tag)) throw UsageError(fmt::format("'{}' is no valid tag", printable(tag)));
  return tag;
}

/// The reference calls it --output-tag or, where several formats are made at once, --overlaybd.
std::optional<std::string> output_tag(const cxxopts::ParseResult& parsed) {
  const std::string output = text(parsed, "output-tag");
  const std::string overlaybd = text(parsed, "overlaybd");
  if (!output.empty() && !overlaybd.empty() && output != overlaybd) {
    throw UsageError("--output-tag and --overlaybd name different tags");
  }
  const std::string tag = output.empty() ? overlaybd : output;
  if (tag.empty() && parsed["referrer"].as<bool>()) return std::nullopt;  // it is found by its subject
  if (tag.empty()) throw UsageError("the result needs a tag: --output-tag (-o) or --overlaybd");
  if (!registry::is_valid_tag(tag)) throw UsageError(fmt::format("'{}' is no valid tag", printable(tag)));
  return tag;
}

void require_ext4(const std::string& fstype) {
  if (fstype == "ext4") return;
  if (fstype == "erofs" || fstype == "xfs" || fstype == "ntfs") {
    throw UsageError(
        fmt::format("--fstype {} belongs to other output formats; overlaybd images hold ext4", fstype));
  }
  throw UsageError(fmt::format("--fstype '{}' is unknown: use ext4", printable(fstype)));
}

/// Where the base layer of that size is: given, beside the program as built, or as installed.
fs::path find_base_layer(const std::string& given, uint64_t vsize_gib) {
  if (!given.empty()) return given;
  const std::string name = fmt::format("ext4_{}", vsize_gib);
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& place :
       {program / "../baselayers" / name, program / "../share/overlaybd-convertor/baselayers" / name,
        fs::path("/opt/overlaybd/baselayers") / name}) {
    if (fs::is_regular_file(place, error)) return place.lexically_normal();
  }
  throw UsageError(
      fmt::format("no base layer '{}' is installed: make one with 'obd-mkbase --vsize {} -o {}' and "
                  "name it with --baselayer",
                  name, vsize_gib, name));
}

convertor::ConvertOptions convert_options(const cxxopts::ParseResult& parsed) {
  require_ext4(parsed["fstype"].as<std::string>());
  convertor::ConvertOptions options;
  options.mkfs = parsed["mkfs"].as<bool>();
  options.vsize_gib = number(parsed, "vsize", 1, blockfs::kMaxVsizeGib);
  options.zfile.algorithm = blockfs::parse_algorithm(parsed["algorithm"].as<std::string>());
  const auto block_size = parsed["block-size"].as<uint64_t>();
  if (!blockfs::is_writable_block_size(block_size)) {
    throw UsageError(fmt::format("--block-size {} is not one of 4096, 8192, 16384 and 32768", block_size));
  }
  options.zfile.block_bytes = static_cast<uint32_t>(block_size);
  const std::string base_layer = text(parsed, "baselayer");
  if (options.mkfs && !base_layer.empty()) throw UsageError("--baselayer goes with --mkfs=false");
  if (!options.mkfs) options.base_layer = find_base_layer(base_layer, options.vsize_gib);
  options.referrer = parsed["referrer"].as<bool>();
  options.oci = parsed["oci"].as<bool>() || options.referrer;  // Docker's manifests know no subject
  if (parsed.count("platform") > 0) {
    for (const std::string& platform : parsed["platform"].as<std::vector<std::string>>()) {
      options.platforms.push_back(convertor::Platform::parse(platform));
    }
  }
  options.merge_index = parsed["merge-index"].as<bool>();
  options.concurrency_limit = parsed["concurrency-limit"].as<uint64_t>();
  options.metadata_budget_bytes = number(parsed, "metadata-budget", kMinMetadataBudgetMib, 1 << 20) << 20;
  options.upload = !parsed["no-upload"].as<bool>();
  options.reserve = parsed["reserve"].as<bool>();
  options.dump_manifest = parsed["dump-manifest"].as<bool>();
  options.work_directory = parsed["dir"].as<std::string>();
  options.reopen_each_layer = parsed["reopen-each-layer"].as<bool>();
  return options;
}

std::chrono::milliseconds retry_delay(double seconds) {
  if (!(seconds >= 0 && seconds <= kMaxRetryDelaySeconds)) {
    throw UsageError(fmt::format("--retry-delay {} is not within 0 to {} seconds", seconds, kMaxRetryDelaySeconds));
  }
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

/// A credential without a prefix was given for the source, or for the one registry there is: another host does not
/// get it.
void read_registries(const cxxopts::ParseResult& parsed, std::istream& in, Request& request) {
  check_password_stdin(parsed);
  registry::RepositoryOptions common = read_registry_options(parsed, RegistrySide::kCommon, in);
  common.work_directory = request.convert.work_directory;
  common.retry.tries = static_cast<int>(number(parsed, "retry", 0, kMaxRetries)) + 1;
  common.retry.first_delay = retry_delay(parsed["retry-delay"].as<double>());
  const auto source = read_registry_options(parsed, RegistrySide::kSource, in);
  const auto target = read_registry_options(parsed, RegistrySide::kTarget, in);
  const std::string source_host = registry::registry_host(request.source_name);
  const std::string target_host = registry::registry_host(request.target_name);
  const bool for_target = source_host == target_host || source_host.empty();
  request.source = merge_registry_options(common, source, true);
  request.target = merge_registry_options(common, target, for_target);
  request.source.retry = request.target.retry = common.retry;
  if (common.credential && !target.credential && !for_target && !target_host.empty()) {
    spdlog::warn("--username is for {}, not for {}: use --src-username and --dest-username", source_host, target_host);
  }
}

Request parse_request(const cxxopts::ParseResult& parsed, std::istream& in) {
  Request request;
  request.source_name = text(parsed, "repository");
  if (request.source_name.empty()) throw UsageError("--repository (-r) is missing");
  const std::string target = text(parsed, "target-repository");
  request.target_name = target.empty() ? request.source_name : target;
  request.reference = input_reference(parsed);
  request.output_tag = output_tag(parsed);
  request.convert = convert_options(parsed);
  read_registries(parsed, in, request);
  const uint64_t threads = number(parsed, "threads", 0, kMaxThreads);
  request.threads = threads != 0 ? threads : std::max(1u, std::thread::hardware_concurrency());
  request.progress = parse_progress_mode(parsed["progress"].as<std::string>());
  request.metrics = text(parsed, "metrics");
  return request;
}

/// Removes the work directory at the end if this run made it and nothing was kept in it.
class WorkDirectory {
 public:
  explicit WorkDirectory(fs::path path) : path_(std::move(path)), existed_(fs::exists(path_)) {
    if (existed_) remove_stale_temporaries(path_);
  }
  ~WorkDirectory() {
    std::error_code error;
    if (!existed_) fs::remove(path_, error);  // only if it is empty
  }
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;

 private:
  const fs::path path_;
  const bool existed_;
};

/// The log goes through the view while that lives, and to the plain stream afterwards.
class LogThroughView {
 public:
  LogThroughView(ProgressView& view, std::ostream& err, bool verbose) : err_(err), verbose_(verbose) {
    configure_logging(view.log(), verbose);
  }
  ~LogThroughView() { configure_logging(err_, verbose_); }
  LogThroughView(const LogThroughView&) = delete;
  LogThroughView& operator=(const LogThroughView&) = delete;

 private:
  std::ostream& err_;
  const bool verbose_;
};

/// A layout keeps every blob of an image open until the image is whole.
void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Blocks of some 100 KiB come and go all the time: they stay in the process instead of being mapped and
/// touched anew.
void tune_allocator() {
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
  ::mallopt(M_ARENA_MAX, 2);
}

struct Repositories {
  std::shared_ptr<registry::Repository> source;
  std::shared_ptr<registry::Repository> target;
};

/// One object where both sides are the same: it keeps one set of connections and tokens.
Repositories open_repositories(const Request& request) {
  Repositories opened;
  opened.source = registry::open_repository(request.source_name, request.source);
  const bool is_registry = !registry::registry_host(request.source_name).empty();
  const bool same =
      request.source_name == request.target_name && (!is_registry || request.source == request.target);
  opened.target = same ? opened.source : registry::open_repository(request.target_name, request.target);
  return opened;
}

ExitCode convert(const Request& request, Run& run, const cxxopts::ParseResult& parsed) {
  const auto started = std::chrono::steady_clock::now();
  convertor::ProgressBoard progress;
  ProgressView view(progress, run.io.err, request.progress, run.io.tty);
  const LogThroughView log(view, run.io.err, parsed["verbose"].as<bool>());
  warn_of_passwords(parsed);
  if (!request.convert.oci && request.target_name.starts_with("oci:")) {
    spdlog::warn("the result will have Docker media types, which other tools do not look for in an OCI layout; "
                 "--oci writes OCI's");
  }
  tune_allocator();
  raise_file_limit();
  const WorkDirectory work_directory(request.convert.work_directory);
  const Repositories repositories = open_repositories(request);
  blockfs::WorkerPool pool(request.threads);
  const convertor::Workshop workshop{.source = *repositories.source,
                                     .target = *repositories.target,
                                     .pool = pool,
                                     .progress = progress,
                                     .options = request.convert};
  const convertor::ConvertResult result =
      convertor::convert_reference(workshop, request.reference, request.output_tag, run.stop());
  const auto print = run.json ? print_json_result : print_text_result;
  print(run.io.out, result, repositories.target->name(), request.output_tag.value_or(""), request.convert.upload);
  if (!request.metrics.empty()) {
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - started;
    write_metrics(request.metrics, result, progress, pool, wall.count());
  }
  return ExitCode::kSuccess;
}

ExitCode convertor_body(const std::vector<std::string>& args, Run& run) {
  cxxopts::Options options = convertor_options();
  const auto parsed = parse_options(options, args);
  run.json = parsed["json"].as<bool>();
  if (parsed["help"].as<bool>()) {
    run.io.out << options.help({"Image", "Registry", "Source", "Target", "Format", "Work", "Output"}) << kExamples;
    return ExitCode::kSuccess;
  }
  if (parsed["version"].as<bool>()) {
    run.io.out << "convertor " OBD_VERSION "\n";
    return ExitCode::kSuccess;
  }
  configure_logging(run.io.err, parsed["verbose"].as<bool>());
  return convert(parse_request(parsed, run.io.in), run, parsed);
}

}  // namespace

cxxopts::Options convertor_options() {
  cxxopts::Options options("convertor", "Converts an OCI image to an overlaybd image that boots at once.");
  const auto words = [] { return cxxopts::value<std::string>(); };
  const auto flag = [] { return cxxopts::value<bool>()->default_value("false"); };
  const auto count = [](const char* standard) { return cxxopts::value<uint64_t>()->default_value(standard); };
  options.add_options("Image")("r,repository", "repository (HOST[:PORT]/NAME) or layout (oci:DIRECTORY)",
                               words(), "REPO")("i,input-tag", "tag of the image to convert", words(), "TAG")(
      "g,input-digest", "or its digest", words(), "DIGEST")("o,output-tag", "tag of the result", words(),
                                                            "TAG")("overlaybd", "the same", words(), "TAG")(
      "target-repository", "where the result goes, if not to --repository", words(), "REPO")(
      "platform", "only the images of an index for this platform; may be repeated",
      cxxopts::value<std::vector<std::string>>(), "OS/ARCH[/VARIANT]");
  add_registry_options(options, "Registry", RegistrySide::kCommon);
  add_registry_options(options, "Source", RegistrySide::kSource);
  add_registry_options(options, "Target", RegistrySide::kTarget);
  options.add_options("Format")("oci", "OCI media types in the result; default: Docker's", flag())(
      "referrer", "make the result a referrer of its source; implies --oci, and -o may be left out", flag())(
      "merge-index", "push one index of the source's images and the converted ones", flag())(
      "fstype", "filesystem in the image", words()->default_value("ext4"), "TYPE")(
      "mkfs", "make the filesystem in the bottom layer; with =false put a base layer below",
      cxxopts::value<bool>()->default_value("true"))("baselayer", "base layer for --mkfs=false", words(),
                                                     "FILE")(
      "vsize", "size of the virtual disk in GiB, 1 to 16384", count("64"), "GIB")(
      "algorithm", "compression: lz4 or zstd", words()->default_value("lz4"), "NAME")(
      "block-size", "bytes compressed at a time: 4096, 8192, 16384 or 32768", count("4096"), "BYTES");
  options.add_options("Work")("d,dir", "directory for what does not fit in memory",
                              words()->default_value("tmp_conv"), "DIR")(
      "threads", "threads that compress; 0: one for each core", count("0"), "N")(
      "concurrency-limit", "images of an index converted at a time; 0: no limit", count("4"), "N")(
      "metadata-budget", "memory for filesystem metadata, in MiB", count("384"), "MIB")(
      "retry", "how often a request that failed for the moment is repeated without progress", count("4"), "N")(
      "retry-delay", "seconds before the first repetition; doubles each time",
      cxxopts::value<double>()->default_value("0.5"), "SECONDS")(
      "disable-sparse", "accepted for compatibility: no uncompressed layer is written, sparse or not",
      flag())("no-upload", "convert, but push nothing", flag())(
      "reserve", "keep each layer's blob in --dir", flag())("dump-manifest",
                                                            "write manifest and config to --dir", flag());
  options.add_options("Output")("progress", "auto, plain, json or none", words()->default_value("auto"),
                                "MODE")("json", "result as JSON lines on standard output", flag())(
      "metrics", "write times and sizes to a file", words(), "FILE")("verbose", "log what is done", flag())(
      "h,help", "show this help", flag())("version", "show the version", flag());
  options.add_options("Testing")("reopen-each-layer", "reopen the filesystem from the blobs after each layer",
                                 flag());
  return options;
}

int convertor_main(const std::vector<std::string>& args, Io io) {
  return run_tool("convertor", io, [&](Run& run) { return convertor_body(args, run); });
}

}  // namespace obd::tools
