#include "convertor/tag_converter.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <map>

#include "common/error.h"
#include "common/stage_group.h"
#include "convertor/image_reuse.h"
#include "convertor/manifest_copy.h"

namespace obd::convertor {
namespace {

constexpr int kMaxDepth = 4;

/// An index or an image of the source, and what is below it.
struct Node {
  registry::Manifest manifest;
  std::optional<Platform> platform;  // as the index says
  std::string label;
  std::vector<std::pair<size_t, Digest>> children;  // place in the index, digest
  bool is_index = false;

  Descriptor descriptor() const {
    return {.media_type = manifest.media_type,
            .digest = manifest.digest,
            .size = manifest.bytes.size(),
            .annotations = {},
            .platform = platform};
  }
};

class GraphConverter {
 public:
  GraphConverter(const Workshop& workshop, std::stop_token stop)
      : workshop_(workshop), context_(workshop), stop_(std::move(stop)) {}

  ConvertResult run(const std::string& reference, const std::optional<std::string>& tag);
  /// For a run that failed: what it made is there.
  void save_records();

 private:
  bool read(registry::Manifest manifest, std::optional<Platform> platform, int depth);
  void read_children(Node& node, int depth);
  bool is_wanted(Node& node);
  void require_platforms() const;
  void convert_images();
  ConvertedImage convert(const Node& node, uint64_t metadata_budget_bytes, const std::stop_token& stop);
  Descriptor push(const Node& node, const std::optional<std::string>& tag);
  Descriptor push_image(const Node& node, const std::optional<std::string>& tag);
  Descriptor push_index(const std::string& bytes, const Node& source, const std::optional<std::string>& tag);
  std::string make_index(const Node& node);
  std::string make_merged_index(const Node& root);

  const Workshop& workshop_;
  const RunContext context_;
  std::stop_token stop_;
  std::map<Digest, Node> nodes_;     // by source digest: what is named twice is converted once
  std::vector<Digest> image_order_;  // images, as the indexes name them
  std::vector<Platform> refused_;    // platforms of images that nobody asked for
  std::map<Digest, ConvertedImage> converted_;
  ConvertResult result_;
};

/// Whether there is anything in it to convert.
bool GraphConverter::read(registry::Manifest manifest, std::optional<Platform> platform, int depth) {
  const Digest digest = manifest.digest;
  if (nodes_.contains(digest)) return true;
  Node node{.manifest = std::move(manifest), .platform = std::move(platform), .label = {}, .children = {}};
  node.is_index = manifest_kind(node.manifest.media_type) == ManifestKind::kIndex;
  if (node.is_index) {
    read_children(node, depth);
    if (node.children.empty() && depth > 0) return false;
  } else {
    if (!is_wanted(node)) return false;
    if (depth > 0) node.label = node.platform ? node.platform->text() : std::string(digest.brief());
    image_order_.push_back(digest);
  }
  nodes_.emplace(digest, std::move(node));
  return true;
}

void GraphConverter::read_children(Node& node, int depth) {
  if (depth == kMaxDepth) throw DataError(fmt::format("indexes are nested more than {} deep", kMaxDepth));
  const ImageIndex index = parse_index(node.manifest);
  bool has_images = false;
  for (size_t place = 0; place < index.manifests.size(); ++place) {
    const Descriptor& child = index.manifests[place];
    if (is_attestation(child)) {
      spdlog::warn("left out: {} is an attestation about the source image, not an image",
                   child.digest.text());
      result_.skipped.push_back(child.digest);
      continue;
    }
    if (child.size > registry::kMaxManifestBytes) {
      throw DataError(fmt::format("manifest {} claims {} bytes", child.digest.text(), child.size));
    }
    has_images = true;
    if (read(workshop_.source.pull_manifest(child.digest.text(), stop_), child.platform, depth + 1)) {
      node.children.emplace_back(place, child.digest);
    }
  }
  if (!has_images) throw DataError(fmt::format("index {} names no image", node.manifest.digest.text()));
}

/// An index need not say for which platform an image is; its config does.
bool GraphConverter::is_wanted(Node& node) {
  const auto& wanted = workshop_.options.platforms;
  if (wanted.empty()) return true;
  if (!node.platform) {
    const SourceImage image =
        read_source_image(workshop_.source_place(), node.manifest, workshop_.options, stop_);
    node.platform = image.config.platform;
  }
  if (std::any_of(wanted.begin(), wanted.end(),
                  [&](const Platform& one) { return one.matches(*node.platform); })) {
    return true;
  }
  refused_.push_back(*node.platform);
  return false;
}

void GraphConverter::require_platforms() const {
  for (const Platform& wanted : workshop_.options.platforms) {
    const bool found = std::any_of(image_order_.begin(), image_order_.end(), [&](const Digest& digest) {
      return wanted.matches(nodes_.at(digest).platform.value());
    });
    if (found) continue;
    std::string there;
    const auto add = [&](const Platform& platform) {
      there += fmt::format("{}{}", there.empty() ? "" : ", ", platform.text());
    };
    for (const Digest& digest : image_order_) add(nodes_.at(digest).platform.value());
    for (const Platform& platform : refused_) add(platform);
    throw UsageError(
        fmt::format("the source has no image for the platform {}; it has {}", wanted.text(), there));
  }
}

ConvertedImage GraphConverter::convert(const Node& node, uint64_t metadata_budget_bytes,
                                       const std::stop_token& stop) {
  if (context_.reuse) {
    if (auto found = find_converted_image(context_, node.manifest, stop)) return std::move(*found);
  }
  return convert_image(context_, node.manifest, metadata_budget_bytes, node.label, stop);
}

/// As many at a time as the limit and the cores allow: one image's pipeline already fills two or three of
/// them, and every image at work takes its share of memory.
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
        ConvertedImage image = convert(nodes_.at(image_order_[i]), budget, stop);
        const std::lock_guard lock(mutex);
        converted_.emplace(image_order_[i], std::move(image));
      }
    });
  }
  group.join();
}

std::string GraphConverter::make_index(const Node& node) {
  std::vector<std::pair<size_t, Descriptor>> entries;
  for (const auto& [place, digest] : node.children)
    entries.emplace_back(place, push(nodes_.at(digest), std::nullopt));
  return rewrite_index(node.manifest.bytes, context_.form(node.manifest), entries);
}

/// The source's images first: who does not know overlaybd takes the first that fits.
std::string GraphConverter::make_merged_index(const Node& root) {
  std::vector<Descriptor> converted;
  for (const Digest& digest : image_order_) {
    const Node& image = nodes_.at(digest);
    Descriptor descriptor = push(image, std::nullopt);
    descriptor.platform = image.platform ? *image.platform : converted_.at(digest).platform;
    converted.push_back(std::move(descriptor));
  }
  std::string index = root.manifest.bytes;
  std::vector<size_t> places;
  if (!root.is_index) {
    Descriptor source = root.descriptor();
    source.platform = converted.front().platform;
    index = index_of(source);
    places = {0};
  } else if (workshop_.options.platforms.empty()) {
    for (size_t place = 0; place < parse_index(root.manifest).manifests.size(); ++place)
      places.push_back(place);
  } else {
    for (const auto& [place, digest] : root.children) places.push_back(place);
  }
  if (workshop_.options.upload) {
    const registry::Manifest listed{.media_type = {}, .bytes = index, .digest = root.manifest.digest};
    const ImageIndex entries = parse_index(listed);
    for (const size_t place : places) {
      copy_manifest(workshop_.source, workshop_.target, entries.manifests.at(place), stop_);
    }
  }
  return merge_index(index, places, context_.form(root.manifest), converted);
}

Descriptor GraphConverter::push_index(const std::string& bytes, const Node& source,
                                      const std::optional<std::string>& tag) {
  if (workshop_.options.dump_manifest) {
    const auto directory = workshop_.options.work_directory / std::string(source.manifest.digest.brief());
    std::filesystem::create_directories(directory);
    write_file_atomically(directory / "index.json", bytes);
  }
  const Descriptor descriptor{
      .media_type = std::string(workshop_.options.oci ? registry::media_type::kOciIndex
                                                      : registry::media_type::kDockerIndex),
      .digest = Digest::of(bytes),
      .size = bytes.size()};
  if (workshop_.options.upload) workshop_.target.push_manifest(tag, descriptor.media_type, bytes, stop_);
  return descriptor;
}

Descriptor GraphConverter::push_image(const Node& node, const std::optional<std::string>& tag) {
  ConvertedImage& image = converted_.at(node.manifest.digest);
  if (!workshop_.options.upload) return image.manifest;
  const auto push = [&] {
    workshop_.target.push_manifest(tag, image.manifest.media_type, image.manifest_bytes, stop_);
  };
  try {
    push();
  } catch (const registry::MissingBlobError& error) {
    if (!image.reused) throw;
    // What the store knows is no longer what the registry holds: make anew what is missing.
    spdlog::info("{}", error.what());
    context_.reuse->forget_manifest(node.manifest.digest, context_.manifest_recipe(), image.manifest, stop_);
    image =
        convert_image(context_, node.manifest, workshop_.options.metadata_budget_bytes, node.label, stop_);
    push();
  }
  if (context_.reuse && !image.reused) {
    context_.reuse->record_manifest(node.manifest.digest, context_.manifest_recipe(), image.manifest, stop_);
  }
  return image.manifest;
}

/// Pushes what `node` became, after all that it refers to.
Descriptor GraphConverter::push(const Node& node, const std::optional<std::string>& tag) {
  return node.is_index ? push_index(make_index(node), node, tag) : push_image(node, tag);
}

ConvertResult GraphConverter::run(const std::string& reference, const std::optional<std::string>& tag) {
  registry::Manifest manifest = workshop_.source.pull_manifest(reference, stop_);
  result_.source_digest = manifest.digest;
  read(std::move(manifest), std::nullopt, 0);
  require_platforms();
  convert_images();
  const Node& root = nodes_.at(result_.source_digest);
  result_.is_index = root.is_index || workshop_.options.merge_index;
  result_.root =
      workshop_.options.merge_index ? push_index(make_merged_index(root), root, tag) : push(root, tag);
  for (const Digest& digest : image_order_) result_.images.push_back(std::move(converted_.at(digest)));
  if (context_.reuse) {
    context_.reuse->save(stop_);
    result_.reuse = context_.reuse->counts();
  }
  return std::move(result_);
}

void GraphConverter::save_records() {
  try {
    if (context_.reuse) context_.reuse->save(stop_);
  } catch (const DbError& error) {  // the run has failed for another reason, which counts
    spdlog::warn("{}", error.what());
  }
}

}  // namespace

ConvertResult convert_reference(const Workshop& workshop, const std::string& reference,
                                const std::optional<std::string>& tag, std::stop_token stop) {
  GraphConverter converter(workshop, std::move(stop));
  try {
    return converter.run(reference, tag);
  } catch (const DbError&) {
    throw;
  } catch (const NetworkError&) {  // the cache is behind the same network
    throw;
  } catch (const Error&) {
    converter.save_records();
    throw;
  }
}

}  // namespace obd::convertor
