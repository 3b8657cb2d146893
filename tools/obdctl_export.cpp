#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "blockfs/layer_blob.h"
#include "blockfs/layer_stack.h"
#include "common/error.h"
#include "tools/obdctl.h"
#include "tools/obdctl_images.h"
#include "tools/obdctl_operands.h"
#include "tools/sparse_file.h"

namespace obd::tools {
namespace {

using blockfs::kSectorBytes;
using blockfs::LayerStack;

constexpr const char* kExamples =
    "  obdctl export -r oci:/srv/images -i 1.4_obd -o disk.img\n"
    "  obdctl export --layers 1 -o base.img layer1.obd layer2.obd\n";

constexpr uint64_t kReadBytes = 4 << 20;
/// Compressed neighbours cost less to read than to skip.
constexpr uint64_t kGapSectors = 128;

/// Runs in the order in which their layers hold them, so that every layer is read once from front to back.
std::vector<LayerStack::Extent> in_stored_order(const LayerStack& stack) {
  std::vector<LayerStack::Extent> runs;
  for (const auto& extent : stack.extents()) {
    if (extent.entry.zeroed) continue;
    if (extent.entry.tag != 0) {
      throw DataError(fmt::format("{}: data at sector {} lies in the source layer of a TurboOCI image",
                                  stack.layers()[extent.layer]->name(), extent.entry.sector));
    }
    runs.push_back(extent);
  }
  std::sort(runs.begin(), runs.end(), [](const auto& a, const auto& b) {
    return std::pair(a.layer, a.entry.data_sector) < std::pair(b.layer, b.entry.data_sector);
  });
  return runs;
}

/// Reads runs that are stored side by side in one go and puts each where it belongs.
void copy_runs(const LayerStack& stack, SparseFile& disk, const std::stop_token& stop) {
  const std::vector<LayerStack::Extent> runs = in_stored_order(stack);
  std::vector<std::byte> buffer;
  const auto stored_end = [](const LayerStack::Extent& run) {
    return run.entry.data_sector + run.entry.sectors;
  };
  for (size_t first = 0; first < runs.size();) {
    if (stop.stop_requested()) throw Cancelled();
    const uint64_t start = runs[first].entry.data_sector;
    uint64_t end = stored_end(runs[first]);
    size_t next = first + 1;
    while (next < runs.size() && runs[next].layer == runs[first].layer &&
           runs[next].entry.data_sector <= end + kGapSectors &&
           stored_end(runs[next]) - start <= kReadBytes / kSectorBytes) {
      end = std::max(end, stored_end(runs[next++]));
    }
    buffer.resize((end - start) * kSectorBytes);
    stack.layers()[runs[first].layer]->read_data(start, buffer);
    for (; first < next; ++first) {
      const auto& entry = runs[first].entry;
      disk.write(entry.sector * kSectorBytes,
                 std::span(buffer).subspan((entry.data_sector - start) * kSectorBytes,
                                           entry.sectors * kSectorBytes));
    }
  }
}

/// A platform without a variant asks for any of them, unless there is an image that says just that.
const LoadedImage& choose_image(const LoadedTree& tree, const std::string& platform) {
  std::vector<const LoadedImage*> matching;
  std::vector<const LoadedImage*> exact;
  const std::string known = labels_of(tree);
  const auto wanted = platform.empty() ? convertor::Platform() : convertor::Platform::parse(platform);
  for (const LoadedImage& image : tree.images) {
    if (platform.empty() || wanted.matches(image.platform)) matching.push_back(&image);
    if (image.platform.text() == platform) exact.push_back(&image);
  }
  if (!exact.empty()) matching = exact;
  if (matching.empty()) {
    throw UsageError(fmt::format("no image for the platform '{}': there are {}", printable(platform), known));
  }
  if (matching.size() > 1) {
    throw UsageError(
        fmt::format("the reference leads to several images ({}): choose one with --platform", known));
  }
  return *matching.front();
}

std::vector<std::shared_ptr<const ByteSource>> open_blobs(const Operands& operands,
                                                          const std::string& platform, Run& run) {
  std::vector<std::shared_ptr<const ByteSource>> blobs;
  for (const auto& file : operands.files) blobs.push_back(std::make_shared<FileSource>(file));
  if (!operands.repository) return blobs;
  LoadedTree tree = load_images(*operands.repository, operands.reference, run.stop());
  prefer(tree, ImageKind::kOverlaybd);
  for (const convertor::Descriptor& layer : choose_image(tree, platform).manifest.layers) {
    blobs.push_back(fetch_blob(*operands.repository, layer.blob(), run.stop()));
  }
  return blobs;
}

size_t layer_limit(const cxxopts::ParseResult& parsed, size_t there_are) {
  if (parsed.count("layers") == 0) return there_are;
  const auto wanted = parsed["layers"].as<uint32_t>();
  if (wanted == 0 || wanted > there_are) {
    throw UsageError(fmt::format("--layers {}: there are {} layers", wanted, there_are));
  }
  return wanted;
}

}  // namespace

ExitCode obdctl_export(const std::vector<std::string>& args, Run& run) {
  cxxopts::Options options(
      "obdctl export",
      "Writes the disk that an overlaybd image, or layer blobs (bottom first), make to a\n"
      "sparse file.\n");
  add_operand_options(options, "Layer blobs, bottom first");
  options.add_options("Export")("o,output", "File to write", cxxopts::value<std::string>(), "FILE")(
      "layers", "Stack only the N lowest layers", cxxopts::value<uint32_t>(), "N")(
      "platform", "Image of an index, e.g. linux/arm64", cxxopts::value<std::string>()->default_value(""),
      "PLATFORM");
  const auto parsed = parse_verb(options, args, kExamples, run);
  if (!parsed) return ExitCode::kSuccess;
  if (parsed->count("output") == 0) throw UsageError("--output (-o) is needed");
  const auto output = (*parsed)["output"].as<std::string>();

  auto blobs = open_blobs(parse_operands(*parsed, run.io.in), (*parsed)["platform"].as<std::string>(), run);
  blobs.resize(layer_limit(*parsed, blobs.size()));
  LayerStack stack;
  for (const auto& blob : blobs) stack.push(blockfs::open_layer_blob(blob).layer);
  SparseFile disk(output, stack.size());
  copy_runs(stack, disk, run.stop());
  disk.commit();
  if (run.json) {
    const nlohmann::ordered_json summary = {{"type", "summary"},
                                            {"layers", blobs.size()},
                                            {"disk_bytes", stack.size()},
                                            {"written_bytes", disk.written_bytes()}};
    run.io.out << summary.dump() << '\n';
  } else {
    run.io.out << fmt::format("{}: {} layers, a disk of {}, {} written\n", printable(output), blobs.size(),
                              human_bytes(stack.size()), human_bytes(disk.written_bytes()));
  }
  return ExitCode::kSuccess;
}

}  // namespace obd::tools
