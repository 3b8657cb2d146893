#include "convertor/image_reuse.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <random>
#include <vector>

#include "common/stage_group.h"

namespace obd::convertor {
namespace {

/// A known image costs up to seven requests beside these (with a cache in the registry): ten in all.
constexpr size_t kMaxLowerLooks = 3;

class ImageFinder {
 public:
  ImageFinder(const RunContext& context, const registry::Manifest& source, const std::stop_token& stop)
      : context_(context),
        source_(source),
        image_(read_source_image(context.workshop.source_place(), source, context.workshop.options, stop)),
        stop_(stop) {}

  /// None if what the store knows of that repository is not what would be made.
  std::optional<ConvertedImage> find(const dedupdb::ManifestRecord& record);

 private:
  bool find_layers(const std::string& repo);
  std::vector<registry::BlobId> lower_layers_to_look_at() const;
  bool are_layers_right();
  bool take_layers_over(const std::string& repo);
  std::optional<Digest> below(size_t index) const;

  const RunContext& context_;
  const registry::Manifest& source_;
  const SourceImage image_;
  const std::stop_token& stop_;
  std::vector<registry::BlobId> layers_;
};

std::optional<Digest> ImageFinder::below(size_t index) const {
  return index > 0 ? layers_[index - 1].digest : context_.base_digest();
}

bool ImageFinder::find_layers(const std::string& repo) {
  layers_.clear();
  for (size_t i = 0; i < image_.manifest.layers.size(); ++i) {
    const auto blob = context_.reuse->recorded_layer(context_.identity(image_, i, below(i)), repo, stop_);
    if (!blob) return false;
    layers_.push_back(*blob);
  }
  return true;
}

/// A registry looks for what a manifest names when that is pushed, but may have only a part of a blob. Where
/// each look is a request, a few layers are chosen at random, so that many runs see all.
std::vector<registry::BlobId> ImageFinder::lower_layers_to_look_at() const {
  const bool is_cheap = !context_.workshop.target.location();
  std::vector<registry::BlobId> chosen;
  std::minstd_rand random(std::random_device{}());
  std::sample(layers_.begin(), std::prev(layers_.end()), std::back_inserter(chosen),
              is_cheap ? layers_.size() : kMaxLowerLooks, random);
  return chosen;
}

bool ImageFinder::are_layers_right() {
  const std::vector<registry::BlobId> lower = lower_layers_to_look_at();
  std::atomic<size_t> next = 0;
  std::atomic<bool> has_all = true;
  StageGroup looks(stop_);
  for (size_t worker = 0; worker < std::min(lower.size(), kMaxLowerLooks); ++worker) {
    looks.start("look", [&](const std::stop_token& stop) {
      for (size_t i = next++; i < lower.size() && has_all; i = next++) {
        if (!context_.workshop.target.has_blob(lower[i], stop)) has_all = false;
      }
    });
  }
  const size_t top = layers_.size() - 1;
  const bool is_top =
      context_.reuse->is_layer(context_.identity(image_, top, below(top)), layers_[top], stop_);
  looks.join();
  return is_top && has_all;
}

/// What is not in the source is not for who knows its digest alone.
bool ImageFinder::take_layers_over(const std::string& repo) {
  const auto is_in_source = [&](const Descriptor& layer) {
    return context_.workshop.source.has_blob(layer.blob(), stop_);
  };
  const auto mount = [&](const registry::BlobId& blob) { return context_.reuse->mount(blob, repo, stop_); };
  const auto& sources = image_.manifest.layers;
  return std::all_of(sources.begin(), sources.end(), is_in_source) &&
         std::all_of(layers_.begin(), layers_.end(), mount);
}

std::optional<ConvertedImage> ImageFinder::find(const dedupdb::ManifestRecord& record) {
  if (!find_layers(record.repo)) return std::nullopt;
  std::vector<Descriptor> descriptors;
  if (context_.base) descriptors.push_back(layer_descriptor(context_.base->blob(), context_.media_types()));
  ConvertedImage converted{.source_digest = source_.digest,
                           .platform = image_.config.platform,
                           .manifest = {},
                           .manifest_bytes = {},
                           .layers = {},
                           .reused = true,
                           .recorded = context_.reuse->is_here(record)};
  for (size_t i = 0; i < layers_.size(); ++i) {
    descriptors.push_back(layer_descriptor(layers_[i], context_.media_types()));
    converted.layers.push_back({.source_digest = image_.manifest.layers[i].digest,
                                .converted = descriptors.back(),
                                .applied = {},
                                .reused = true});
  }
  RewrittenImage made =
      rewrite_image(source_.bytes, image_.config_bytes, context_.form(source_), descriptors);
  if (made.manifest.digest != record.digest) return std::nullopt;
  if (!converted.recorded && !take_layers_over(record.repo)) return std::nullopt;
  if (!are_layers_right()) return std::nullopt;
  for (size_t i = 0; i < layers_.size() && !converted.recorded; ++i) {
    context_.reuse->record_layer(context_.identity(image_, i, below(i)), layers_[i], stop_);
  }
  // The rest of what the manifest names: who collected garbage may have spared the layers alone.
  if (context_.base) context_.base->publish(context_.workshop.target, stop_);
  context_.workshop.target.push_bytes(made.config_bytes, stop_);
  converted.manifest = std::move(made.manifest);
  converted.manifest_bytes = std::move(made.manifest_bytes);
  return converted;
}

}  // namespace

std::optional<ConvertedImage> find_converted_image(const RunContext& context,
                                                   const registry::Manifest& source,
                                                   const std::stop_token& stop) {
  const std::string recipe = context.manifest_recipe();
  const std::string type(context.media_types() == MediaTypes::kOci ? registry::media_type::kOciManifest
                                                                   : registry::media_type::kDockerManifest);
  const auto records = context.reuse->find_manifests(source.digest, recipe, type, stop);
  if (records.empty()) return std::nullopt;
  ImageFinder finder(context, source, stop);
  for (const dedupdb::ManifestRecord& record : records) {
    if (auto found = finder.find(record)) return found;
    if (!context.reuse->is_here(record)) continue;
    context.reuse->forget_manifest(source.digest, recipe,
                                   {.media_type = type, .digest = record.digest, .size = record.size}, stop);
  }
  return std::nullopt;
}

}  // namespace obd::convertor
