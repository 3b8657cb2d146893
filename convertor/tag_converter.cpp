#include "convertor/tag_converter.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>

#include "blockfs/ext4/metadata_store.h"
#include "common/error.h"
#include "common/log.h"
#include "common/stage_group.h"
#include "convertor/image_graph.h"
#include "convertor/image_reuse.h"
#include "convertor/manifest_copy.h"

namespace obd::convertor {
namespace {

/// Of what was asked for, not of who asks.
bool is_refusal(const NetworkError& error) {
  const int status = error.http_status();
  return status >= 400 && status < 500 && status != 401 && status != 403 && status != 429;
}

/// What another image at a time takes without the metadata of its filesystem (docs/performance.md).
constexpr uint64_t kAnotherImageBytes = 24 << 20;
/// With less, an image's metadata is written and read again and again.
constexpr uint64_t kEnoughMetadataBytes = 16 << 20;
/// Layers that are fetched ahead of those being applied, by all images together: the others fill the gaps.
constexpr uint64_t kLayersAhead = 2;

class GraphConverter {
 public:
  GraphConverter(const Workshop& workshop, std::stop_token stop)
      : workshop_(workshop), context_(workshop), stop_(std::move(stop)) {}

  ConvertResult run(const std::string& reference, const std::optional<std::string>& tag);
  /// For a run that failed: what it made is there, where the target keeps it.
  void save_records();

 private:
  void convert_images();
  uint64_t shared_bytes() const;
  uint64_t images_at_once() const;
  ImageShare share_of(uint64_t images) const;
  ConvertedImage convert(const SourceNode& node, const ImageShare& share, const std::stop_token& stop);
  Descriptor push(const SourceNode& node, const std::optional<std::string>& tag);
  Descriptor push_image(const SourceNode& node, const std::optional<std::string>& tag);
  Descriptor push_index(const std::string& bytes, const SourceNode& source,
                        const std::optional<std::string>& tag);
  std::string make_index(const SourceNode& node);
  std::string make_merged_index(const SourceNode& root);

  const Workshop& workshop_;
  const RunContext context_;
  std::stop_token stop_;
  ImageGraph graph_;
  std::map<Digest, ConvertedImage> converted_;  // by source digest
  std::map<Digest, Descriptor> pushed_;         // by source digest: what several indexes name is pushed once
  ConvertResult result_;
};

ConvertedImage GraphConverter::convert(const SourceNode& node, const ImageShare& share,
                                       const std::stop_token& stop) {
  // What is to be kept of each layer is at hand only where layers are looked at one by one.
  const bool keeps_files = workshop_.options.reserve || workshop_.options.dump_manifest;
  if (context_.reuse && !keeps_files) {
    if (auto found = find_converted_image(context_, node.manifest, stop)) return std::move(*found);
  }
  return convert_image(context_, node.manifest, share, node.label, stop);
}

/// What several images at a time share: the whole budget is for one that is extraordinary.
uint64_t GraphConverter::shared_bytes() const {
  return workshop_.options.metadata_budget_bytes / 3 * 2;
}

/// As many as were asked for, if the budget is enough for them.
uint64_t GraphConverter::images_at_once() const {
  const uint64_t limit = workshop_.options.concurrency_limit;
  const uint64_t images = graph_.images.size();
  const uint64_t affordable =
      (shared_bytes() + kAnotherImageBytes) / (kEnoughMetadataBytes + kAnotherImageBytes);
  return std::max<uint64_t>(1, std::min({limit == 0 ? images : limit, images, affordable}));
}

/// What each of `images` at a time may use.
ImageShare GraphConverter::share_of(uint64_t images) const {
  if (images == 1)
    return {.metadata_bytes = workshop_.options.metadata_budget_bytes, .layers_ahead = kLayersAhead};
  const uint64_t others = (images - 1) * kAnotherImageBytes;
  return {.metadata_bytes = (shared_bytes() - others) / images, .layers_ahead = kLayersAhead / images};
}

void GraphConverter::convert_images() {
  const uint64_t images = graph_.images.size();
  const uint64_t at_once = images_at_once();
  const ImageShare share = share_of(at_once);
  std::atomic<size_t> next{0};
  std::mutex mutex;  // guards converted_ and large
  std::vector<const SourceNode*> large;
  const auto convert_one = [&](const SourceNode& node, const std::stop_token& stop) {
    try {
      ConvertedImage image = convert(node, share, stop);
      const std::lock_guard lock(mutex);
      converted_.emplace(node.manifest.digest, std::move(image));
    } catch (const blockfs::MetadataBudgetExceeded& error) {
      if (at_once == 1) throw;
      log::info("{}: alone, after the others cause=\"{}\"", node.label, error.what());
      const std::lock_guard lock(mutex);
      large.push_back(&node);
    }
  };
  StageGroup group(stop_);
  for (uint64_t worker = 0; worker < at_once; ++worker) {
    group.start("apply", [&](const std::stop_token& stop) {
      for (size_t i = next++; i < images; i = next++) convert_one(graph_.nodes.at(graph_.images[i]), stop);
    });
  }
  group.join();
  for (const SourceNode* node : large) {
    converted_.emplace(node->manifest.digest, convert(*node, share_of(1), stop_));
  }
}

std::string GraphConverter::make_index(const SourceNode& node) {
  std::vector<std::pair<size_t, Descriptor>> entries;
  for (const auto& [place, digest] : node.children)
    entries.emplace_back(place, push(graph_.nodes.at(digest), std::nullopt));
  return rewrite_index(node.manifest.bytes, context_.form(node.manifest), entries);
}

/// The source's images first: who does not know overlaybd takes the first that fits.
std::string GraphConverter::make_merged_index(const SourceNode& root) {
  std::vector<Descriptor> converted;
  for (const Digest& digest : graph_.images) {
    const SourceNode& image = graph_.nodes.at(digest);
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
  } else {
    places = root.kept;
  }
  if (workshop_.options.upload) {
    const registry::Manifest listed{.media_type = {}, .bytes = index, .digest = root.manifest.digest};
    const ImageIndex entries = parse_index(listed);
    ManifestCopier copier(workshop_.source, workshop_.target);
    for (const size_t place : places) copier.copy(entries.manifests.at(place), stop_);
  }
  return merge_index(index, places, context_.form(root.manifest), converted);
}

Descriptor GraphConverter::push_index(const std::string& bytes, const SourceNode& source,
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

Descriptor GraphConverter::push_image(const SourceNode& node, const std::optional<std::string>& tag) {
  ConvertedImage& image = converted_.at(node.manifest.digest);
  if (!workshop_.options.upload) return image.manifest;
  const auto push = [&] {
    workshop_.target.push_manifest(tag, image.manifest.media_type, image.manifest_bytes, stop_);
  };
  try {
    push();
  } catch (const NetworkError& error) {
    if (!image.reused || !is_refusal(error)) throw;
    // What the store knows is no longer what the registry holds: make anew what is missing. Registries say
    // so in many ways.
    log::info("{}", error.what());
    if (image.recorded) {
      context_.reuse->forget_manifest(node.manifest.digest, context_.manifest_recipe(), image.manifest,
                                      stop_);
    }
    image = convert_image(context_, node.manifest, share_of(1), node.label, stop_);
    push();
  }
  if (image.reused) context_.reuse->count_manifest();
  if (context_.reuse && !image.recorded) {
    context_.reuse->record_manifest(node.manifest.digest, context_.manifest_recipe(), image.manifest, stop_);
  }
  return image.manifest;
}

/// Pushes what `node` became, after all that it refers to. What has a tag is the root, which nothing refers
/// to.
Descriptor GraphConverter::push(const SourceNode& node, const std::optional<std::string>& tag) {
  const auto known = pushed_.find(node.manifest.digest);
  if (known != pushed_.end()) return known->second;
  Descriptor descriptor = node.is_index ? push_index(make_index(node), node, tag) : push_image(node, tag);
  pushed_.emplace(node.manifest.digest, descriptor);
  return descriptor;
}

ConvertResult GraphConverter::run(const std::string& reference, const std::optional<std::string>& tag) {
  graph_ = read_image_graph(workshop_.source_place(), workshop_.options, reference, stop_);
  result_.source_digest = graph_.root;
  result_.skipped = graph_.skipped;
  convert_images();
  const SourceNode& root = graph_.nodes.at(graph_.root);
  result_.is_index = root.is_index || workshop_.options.merge_index;
  result_.root =
      workshop_.options.merge_index ? push_index(make_merged_index(root), root, tag) : push(root, tag);
  for (const Digest& digest : graph_.images) result_.images.push_back(std::move(converted_.at(digest)));
  if (context_.reuse) {
    context_.reuse->save(stop_);
    result_.reuse = context_.reuse->counts();
  }
  return std::move(result_);
}

void GraphConverter::save_records() {
  try {
    if (context_.reuse && !context_.held) context_.reuse->save(stop_);
  } catch (const DbError& error) {  // the run has failed for another reason, which counts
    log::warn("{}", error.what());
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
