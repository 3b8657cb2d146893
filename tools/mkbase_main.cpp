#include <fmt/format.h>

#include "baselayers/base_layer.h"
#include "blockfs/ext4/capacity.h"
#include "common/spool.h"
#include "tools/cli.h"

namespace {

using namespace obd;

constexpr const char* kExamples = R"(
Examples:
  obd-mkbase -o ext4_64
  obd-mkbase --vsize 256 -o ext4_256
)";

ExitCode make_base(const std::vector<std::string>& args, tools::Run& run) {
  cxxopts::Options options("obd-mkbase", "Makes a base layer for convertor: an empty ext4 disk.");
  options.add_options()("o,output", "the layer to write", cxxopts::value<std::string>(), "FILE")(
      "vsize", "size of the disk in GiB, 1 to 16384", cxxopts::value<uint64_t>()->default_value("64"), "GIB")(
      "h,help", "show this help")("version", "show the version");
  const auto parsed = tools::parse_options(options, args);
  if (parsed.count("help") > 0) {
    run.io.out << options.help() << kExamples;
    return ExitCode::kSuccess;
  }
  if (parsed.count("version") > 0) {
    run.io.out << "obd-mkbase " OBD_VERSION "\n";
    return ExitCode::kSuccess;
  }
  if (parsed.count("output") == 0) throw UsageError("-o FILE is missing");
  const auto vsize = parsed["vsize"].as<uint64_t>();
  if (vsize < 1 || vsize > blockfs::kMaxVsizeGib) {
    throw UsageError(fmt::format("--vsize {} is not within 1 to {}", vsize, blockfs::kMaxVsizeGib));
  }
  const std::filesystem::path path = parsed["output"].as<std::string>();
  Spool spool({.directory = path.has_parent_path() ? path.parent_path() : "."});
  baselayers::write_base_layer(spool, vsize, {});
  spool.publish_as(path);
  return ExitCode::kSuccess;
}

int mkbase(const std::vector<std::string>& args, tools::Io io) {
  return tools::run_tool("obd-mkbase", io, [&](tools::Run& run) { return make_base(args, run); });
}

}  // namespace

int main(int argc, char** argv) {
  return tools::run_main(argc, argv, mkbase);
}
