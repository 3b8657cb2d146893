#include "convertor/tag_converter.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <map>

#include "common/error.h"
#include "common/stage_group.h"

namespace obd::convertor {
namespace {

constexpr int kMaxDepth = 4;

/// An index or an image of the source, and what is below it.
struct Node {
  registry::Manifest manifest;
  std::string label;
  std::vector<std::pair<size_t, Digest>> children;  // place in the index, digest
  bool is_index = false;
};

class GraphConverter {
 public:
  GraphConverter(const Workshop& workshop, std::stop_token stop) : workshop_(workshop), stop_(std::move(stop)) {}

  ConvertResult run(const std::string& reference, const std::optional<std::string>& tag);

 private:
  void read(registry::Manifest manifest, const std::string& label, int depth);
  void read_children(Node& node, int depth);
  void convert_images();
  Descriptor push(const Node& node, const std::optional<std::string>& tag);
  std::string make_index(const Node& node);

  const Workshop& workshop_;
  std::stop_token stop_;
  std::map<Digest, Node> nodes_;      // by source digest: what is named twice is converted once
  std::vector<Digest> image_order_;   // images, as the indexes name them
  std::map<Digest, ConvertedImage> converted_;
  ConvertResult result_;
};

void GraphConverter::read(registry::Manifest manifest, const std::string& label, int depth) {
  const Digest digest = manifest.digest;
  if (nodes_.contains(digest)) return;
  Node node{.manifest = std::move(manifest), .label = label, .children = {}};
  node.is_index = manifest_kind(node.manifest.media_type) == ManifestKind::kIndex;
  if (node.is_index) {
    read_children(node, depth);
  } else {
    image_order_.push_back(digest);
  }
  nodes_.emplace(digest, std::move(node));
}

void GraphConverter::read_children(Node& node, int depth) {
  if (depth == kMaxDepth) throw DataError(fmt::format("indexes are nested more than {} deep", kMaxDepth));
  const ImageIndex index = parse_index(node.manifest);
  for (size_t place = 0; place < index.manifests.size(); ++place) {
    const Descriptor& child = index.manifests[place];
    if (is_attestation(child)) {
      spdlog::warn("left out: {} is an attestation about the source image, not an image", child.digest.text());
      result_.skipped.push_back(child.digest);
      continue;
    }
    if (child.size > registry::kMaxManifestBytes) {
      throw DataError(fmt::format("manifest {} claims {} bytes", child.digest.text(), child.size));
    }
    node.children.emplace_back(place, child.digest);
    const std::string label = child.platform ? child.platform->text() : std::string(child.digest.brief());
    read(workshop_.source.pull_manifest(child.digest.text(), stop_), label, depth + 1);
  }
  if (node.children.empty()) {
    throw DataError(fmt::format("index {} names no image", node.manifest.digest.text()));
  }
}

/// As many at a time as the limit and the cores allow: one image's pipeline already fills two or three of them,
/// and every image at work takes its share of memory.
void GraphConverter::convert_images() {
  const uint64_t limit = workshop_.options.concurrency_limit;
  const uint64_t useful = std::max<uint64_t>(1, workshop_.pool.size() / 2);
  const uint64_t at_once = std::min({limit == 0 ? useful : limit, useful, uint64_t{image_order_.size()}});
  const uint64_t budget = workshop_.options.metadata_budget_bytes / at_once;
  std::atomic<size_t> next{0};
  std::mutex mutex;  // guards converted_
  StageGroup group(stop_);
  for (uint64_t worker = 0; worker < at_once; ++worker) {
    group.start("apply", [&](std::stop_token stop) {
      for (size_t i = next++; i < image_order_.size(); i = next++) {
        const Node& node = nodes_.at(image_order_[i]);
        ConvertedImage image = convert_image(workshop_, node.manifest, budget, node.label, stop);
        const std::lock_guard lock(mutex);
        converted_.emplace(image_order_[i], std::move(image));
      }
    });
  }
  group.join();
}

std::string GraphConverter::make_index(const Node& node) {
  std::vector<std::pair<size_t, Descriptor>> entries;
  for (const auto& [place, digest] : node.children) entries.emplace_back(place, push(nodes_.at(digest), std::nullopt));
  const std::string bytes = rewrite_index(
      node.manifest.bytes, workshop_.options.oci ? MediaTypes::kOci : MediaTypes::kDocker, entries);
  if (workshop_.options.dump_manifest) {
    const auto directory = workshop_.options.work_directory / std::string(node.manifest.digest.brief());
    std::filesystem::create_directories(directory);
    write_file_atomically(directory / "index.json", bytes);
  }
  return bytes;
}

/// Pushes what `node` became, after all that it refers to.
Descriptor GraphConverter::push(const Node& node, const std::optional<std::string>& tag) {
  const bool oci = workshop_.options.oci;
  Descriptor descriptor;
  std::string index;
  const std::string* bytes = &index;
  if (node.is_index) {
    index = make_index(node);
    descriptor.media_type = oci ? registry::media_type::kOciIndex : registry::media_type::kDockerIndex;
    descriptor.digest = Digest::of(index);
    descriptor.size = index.size();
  } else {
    const ConvertedImage& image = converted_.at(node.manifest.digest);
    descriptor = image.manifest;
    bytes = &image.manifest_bytes;
  }
  if (workshop_.options.upload) workshop_.target.push_manifest(tag, descriptor.media_type, *bytes, stop_);
  return descriptor;
}

ConvertResult GraphConverter::run(const std::string& reference, const std::optional<std::string>& tag) {
  registry::Manifest manifest = workshop_.source.pull_manifest(reference, stop_);
  result_.source_digest = manifest.digest;
  read(std::move(manifest), "", 0);
  convert_images();
  const Node& root = nodes_.at(result_.source_digest);
  result_.is_index = root.is_index;
  result_.root = push(root, tag);
  for (const Digest& digest : image_order_) result_.images.push_back(std::move(converted_.at(digest)));
  return std::move(result_);
}

}  // namespace

ConvertResult convert_reference(const Workshop& workshop, const std::string& reference,
                                const std::optional<std::string>& tag, std::stop_token stop) {
  return GraphConverter(workshop, std::move(stop)).run(reference, tag);
}

}  // namespace obd::convertor
