#include "tools/convertor_request.h"

#include <fmt/format.h>

#include <thread>

#include "blockfs/ext4/capacity.h"
#include "common/log.h"
#include "tools/registry_options.h"

namespace obd::tools {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxThreads = 1024;
constexpr uint64_t kMinMetadataBudgetMib = 1;

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
  // In a docker-archive an image may be named by NAME:TAG; the repository sees to that.
  if (registry::place_of(text(parsed, "repository")) != registry::Place::kDockerArchive &&
      !registry::is_valid_tag(tag)) {
    throw UsageError(fmt::format("'{}' is no valid tag", printable(tag)));
  }
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

/// A credential without a prefix was given for the source, or for the one registry there is: another host
/// does not get it.
void read_registries(const cxxopts::ParseResult& parsed, std::istream& in, ConvertorRequest& request) {
  check_password_stdin(parsed);
  registry::RepositoryOptions common = read_registry_options(parsed, RegistrySide::kCommon, in);
  common.work_directory = request.convert.work_directory;
  const auto source = read_registry_options(parsed, RegistrySide::kSource, in);
  const auto target = read_registry_options(parsed, RegistrySide::kTarget, in);
  const std::string source_host = registry::registry_host(request.source_name);
  const std::string target_host = registry::registry_host(request.target_name);
  const bool for_target = source_host == target_host || source_host.empty();
  request.source = merge_registry_options(common, source, true);
  request.target = merge_registry_options(common, target, for_target);
  if (common.credential && !target.credential && !for_target && !target_host.empty()) {
    log::warn("--username is for {}, not for {}: use --src-username and --dest-username", source_host,
              target_host);
  }
}

/// The tag where the cache lies. It must not be one that the conversion itself reads or writes.
std::string cache_tag(const cxxopts::ParseResult& parsed, const ConvertorRequest& request) {
  const std::string tag = parsed["cache-tag"].as<std::string>();
  if (!registry::is_valid_tag(tag))
    throw UsageError(fmt::format("--cache-tag '{}' is no valid tag", printable(tag)));
  for (const char* option : {"db-type", "db-str", "db-str-file"}) {
    if (parsed.count(option) != 0) {
      throw UsageError(
          fmt::format("give one of --cache-tag and --{}: both remember what was converted", option));
    }
  }
  if (tag == request.output_tag)
    throw UsageError(fmt::format("--cache-tag and --output-tag are both '{}'", tag));
  if (tag == request.reference && request.source_name == request.target_name) {
    throw UsageError(fmt::format("--cache-tag and --input-tag are both '{}'", tag));
  }
  const registry::Place place = registry::place_of(request.target_name);
  if (place != registry::Place::kRegistry && place != registry::Place::kLayout) {
    throw UsageError(
        "--cache-tag needs a registry or an oci: layout as target: an archive would be written anew for it");
  }
  return tag;
}

/// On the command line the cache goes before the environment's database.
void read_record_store(const cxxopts::ParseResult& parsed, ConvertorRequest& request) {
  if (parsed.count("cache-tag") != 0) {
    request.cache_tag = cache_tag(parsed, request);
  } else {
    request.db = parse_db_options(parsed);
  }
  request.convert.require_db = parsed["require-db"].as<bool>();
  if (request.convert.require_db && !request.db && request.cache_tag.empty()) {
    throw UsageError("--require-db needs a database (--db-str) or a cache (--cache-tag)");
  }
}

}  // namespace

ConvertorRequest parse_convertor_request(const cxxopts::ParseResult& parsed, std::istream& in) {
  ConvertorRequest request;
  request.source_name = text(parsed, "repository");
  if (request.source_name.empty()) throw UsageError("--repository (-r) is missing");
  const std::string target = text(parsed, "target-repository");
  request.target_name = target.empty() ? request.source_name : target;
  request.reference = input_reference(parsed);
  request.output_tag = output_tag(parsed);
  request.convert = convert_options(parsed);
  if (request.convert.upload && registry::place_of(request.target_name) == registry::Place::kDockerArchive) {
    throw UsageError(
        "a docker-archive can only be read: say with --target-repository where the result goes, "
        "e.g. oci-archive:FILE");
  }
  read_registries(parsed, in, request);
  const uint64_t threads = number(parsed, "threads", 0, kMaxThreads);
  request.threads = threads != 0 ? threads : std::max(1u, std::thread::hardware_concurrency());
  request.progress = parse_progress_mode(parsed["progress"].as<std::string>());
  request.metrics = text(parsed, "metrics");
  read_record_store(parsed, request);
  return request;
}

cxxopts::Options convertor_options() {
  cxxopts::Options options("convertor", "Converts an OCI image to an overlaybd image that boots at once.");
  const auto words = [] { return cxxopts::value<std::string>(); };
  const auto flag = [] { return cxxopts::value<bool>()->default_value("false"); };
  const auto count = [](const char* standard) { return cxxopts::value<uint64_t>()->default_value(standard); };
  options.add_options("Image")("r,repository",
                               "repository (HOST[:PORT]/NAME), layout (oci:DIRECTORY) or archive "
                               "(oci-archive:FILE, docker-archive:FILE)",
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
      "disable-sparse", "accepted for compatibility: no uncompressed layer is written, sparse or not",
      flag())("no-upload", "convert, but push nothing", flag())(
      "reserve", "keep each layer's blob in --dir", flag())("dump-manifest",
                                                            "write manifest and config to --dir", flag());
  add_db_options(options, "Database");
  options.add_options("Database")(
      "cache-tag", "instead of a database: remember it under this tag of the target", words(), "TAG")(
      "require-db", "fail when database or cache are out of reach, instead of doing without", flag());
  options.add_options("Output")("progress", "auto, plain, json or none", words()->default_value("auto"),
                                "MODE")("json", "result as JSON lines on standard output", flag())(
      "metrics", "write times and sizes to a file", words(), "FILE")("verbose", "log what is done", flag())(
      "h,help", "show this help", flag())("version", "show the version", flag());
  options.add_options("Testing")("reopen-each-layer", "reopen the filesystem from the blobs after each layer",
                                 flag());
  return options;
}

}  // namespace obd::tools
