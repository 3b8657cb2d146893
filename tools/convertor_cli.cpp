#include "tools/convertor_cli.h"

#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>

#include "common/log.h"
#include "common/spool.h"
#include "convertor/cache_store.h"
#include "convertor/tag_converter.h"
#include "tools/convertor_report.h"
#include "tools/convertor_request.h"
#include "tools/registry_options.h"

namespace obd::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExamples = R"(
Examples:
  convertor -r localhost:5000/acme/app -i 1.4 -o 1.4_obd --plain
  convertor -r registry.example.com/acme/app -i 1.4 -o 1.4_obd --oci -u user --password-stdin < password
  convertor -r quay.io/acme/app -i 1.4 --target-repository registry.example.com/obd/app -o 1.4
  convertor -r oci:./images -i debian -o debian_obd --oci --vsize 16
  convertor -r localhost:5000/acme/app -i 1.4 -o 1.4_obd --db-str /var/lib/overlaybd/layers.db
  convertor -r localhost:5000/acme/app -i 1.4 -o 1.4_obd --cache-tag obd_cache

Exit codes: 0 done, 1 internal error, 2 usage, 3 malformed image or blob, 4 input/output, 5 network,
            6 credentials, 7 database, 8 something is full, 130 interrupted, 143 terminated.
)";

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

/// A layout or an archive keeps every blob of an image open until the image is whole.
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

/// Throws IoError if there is no place for such a file: before a conversion, not behind it.
void require_place_for(const fs::path& file) {
  const fs::path directory = file.has_parent_path() ? file.parent_path() : fs::path(".");
  const auto fail = [&](int error_number) {
    throw IoError::from_errno(fmt::format("--metrics: writing '{}'", printable(file.string())), error_number);
  };
  if (::access((directory / ".").c_str(), W_OK | X_OK) != 0) fail(errno);
  std::error_code error;
  if (fs::is_directory(file, error)) fail(EISDIR);
}

struct Repositories {
  std::shared_ptr<registry::Repository> source;
  std::shared_ptr<registry::Repository> target;
};

/// One object where both sides are the same: it keeps one set of connections and tokens.
Repositories open_repositories(const ConvertorRequest& request) {
  Repositories opened;
  opened.source = registry::open_repository(request.source_name, request.source);
  const bool is_registry = registry::place_of(request.source_name) == registry::Place::kRegistry;
  const bool same =
      request.source_name == request.target_name && (!is_registry || request.source == request.target);
  opened.target = same ? opened.source : registry::open_repository(request.target_name, request.target);
  return opened;
}

/// A file that is new gets its tables; a server's are made once, by `obdctl db init`.
std::unique_ptr<dedupdb::RecordStore> open_db(const ConvertorRequest& request, const std::stop_token& stop) {
  auto db = dedupdb::open_dedup_db(request.db->options);
  if (request.db->options.type != "sqlite") return db;
  try {
    db->create_tables(stop);
  } catch (const DbError& error) {
    if (request.convert.require_db) throw;
    log::warn("the database cannot be used: {}", error.what());
  }
  return db;
}

/// Null where nothing is remembered: what is not pushed cannot be found.
std::unique_ptr<dedupdb::RecordStore> open_records(const ConvertorRequest& request,
                                                   registry::Repository& target,
                                                   const std::stop_token& stop) {
  if (!request.convert.upload) return nullptr;
  if (request.db) return open_db(request, stop);
  if (request.cache_tag.empty()) return nullptr;
  return std::make_unique<convertor::CacheStore>(target,
                                                 convertor::CacheStore::Options{.tag = request.cache_tag});
}

ExitCode convert(const ConvertorRequest& request, Run& run, const cxxopts::ParseResult& parsed) {
  const auto started = std::chrono::steady_clock::now();
  convertor::ProgressBoard progress;
  ProgressView view(progress, run.io.err, request.progress, run.io.tty);
  const LogThroughView log(view, run.io.err, parsed["verbose"].as<bool>());
  warn_of_passwords(parsed);
  if (request.db) warn_of_db_password(*request.db);
  if (!request.metrics.empty()) require_place_for(request.metrics);
  if (!request.convert.oci && registry::place_of(request.target_name) != registry::Place::kRegistry) {
    log::warn(
        "the result will have Docker media types, which other tools do not look for in an OCI layout; "
        "--oci writes OCI's");
  }
  tune_allocator();
  raise_file_limit();
  const WorkDirectory work_directory(request.convert.work_directory);
  const Repositories repositories = open_repositories(request);
  const auto foreign = open_foreign_blobs(parsed, request.source);
  const auto records = open_records(request, *repositories.target, run.stop());
  blockfs::WorkerPool pool(request.threads);
  const convertor::Workshop workshop{.source = *repositories.source,
                                     .target = *repositories.target,
                                     .pool = pool,
                                     .progress = progress,
                                     .options = request.convert,
                                     .records = records.get(),
                                     .foreign = foreign.get()};
  const convertor::ConvertResult result =
      convertor::convert_reference(workshop, request.reference, request.output_tag, run.stop());
  const auto print = run.json ? print_json_result : print_text_result;
  print(run.io.out, result, repositories.target->name(), request.output_tag.value_or(""),
        request.convert.upload);
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
    run.io.out << options.help(
                      {"Image", "Registry", "Source", "Target", "Format", "Work", "Database", "Output"})
               << kExamples;
    return ExitCode::kSuccess;
  }
  if (parsed["version"].as<bool>()) {
    run.io.out << "convertor " OBD_VERSION "\n";
    return ExitCode::kSuccess;
  }
  configure_logging(run.io.err, parsed["verbose"].as<bool>());
  return convert(parse_convertor_request(parsed, run.io.in), run, parsed);
}

}  // namespace

int convertor_main(const std::vector<std::string>& args, Io io) {
  return run_tool("convertor", io, [&](Run& run) { return convertor_body(args, run); });
}

}  // namespace obd::tools
