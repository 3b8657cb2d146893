#include "tools/obdctl_images.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"
#include "convertor/cache_artifact.h"
#include "tools/cli.h"

namespace obd::tools {
namespace {

constexpr int kMaxIndexDepth = 8;
constexpr size_t kMaxDocuments = 1000;

class Loader {
 public:
  Loader(registry::Repository& repository, std::stop_token stop)
      : repository_(repository), stop_(std::move(stop)) {}

  void load(const std::string& reference, const std::optional<convertor::Platform>& platform, int depth) {
    if (depth > kMaxIndexDepth || tree.images.size() + tree.indexes.size() >= kMaxDocuments) {
      throw DataError(fmt::format("{}: indexes are nested more than {} deep or hold more than {} images",
                                  reference, kMaxIndexDepth, kMaxDocuments));
    }
    registry::Manifest document = repository_.pull_manifest(reference, stop_);
    if (convertor::manifest_kind(document.media_type) == convertor::ManifestKind::kImage) {
      return load_image(std::move(document), platform);
    }
    const convertor::ImageIndex index = convertor::parse_index(document);
    tree.indexes.push_back(std::move(document));
    for (const convertor::Descriptor& entry : index.manifests) {
      if (convertor::is_attestation(entry)) {
        ++tree.attestations;
      } else {
        load(entry.digest.text(), entry.platform, depth + 1);
      }
    }
  }

  LoadedTree tree;

 private:
  void load_image(registry::Manifest document, const std::optional<convertor::Platform>& platform) {
    convertor::refuse_cache(document);
    convertor::ImageManifest manifest = convertor::parse_manifest(document);
    const std::string config = registry::pull_small_blob(repository_, manifest.config.blob(), stop_);
    convertor::ImageConfig parsed = convertor::parse_config(config, manifest.config.digest);
    const convertor::Platform shown = platform.value_or(parsed.platform);
    tree.images.push_back({std::move(document), std::move(manifest), std::move(parsed), shown});
  }

  registry::Repository& repository_;
  std::stop_token stop_;
};

}  // namespace

std::string LoadedImage::label() const {
  return platform.os.empty() && platform.architecture.empty() ? std::string(document.digest.brief())
                                                              : platform.text();
}

bool LoadedImage::is_overlaybd() const {
  return convertor::is_overlaybd(manifest);
}

void prefer(LoadedTree& tree, ImageKind kind) {
  const auto is_other = [&](const LoadedImage& image) {
    return image.is_overlaybd() != (kind == ImageKind::kOverlaybd);
  };
  if (!std::all_of(tree.images.begin(), tree.images.end(), is_other)) std::erase_if(tree.images, is_other);
}

std::vector<convertor::Platform> keep_platforms(LoadedTree& tree,
                                                const std::vector<convertor::Platform>& wanted) {
  std::vector<convertor::Platform> missing;
  std::vector<bool> kept(tree.images.size());
  const auto keep_if = [&](const auto& fits) {
    bool any = false;
    for (size_t i = 0; i < kept.size(); ++i) {
      if (!fits(tree.images[i].platform)) continue;
      kept[i] = any = true;
    }
    return any;
  };
  for (const convertor::Platform& one : wanted) {
    if (keep_if([&](const convertor::Platform& there) { return one.matches(there); })) continue;
    if (keep_if([&](const convertor::Platform& there) { return there.matches(one); })) continue;
    missing.push_back(one);
  }
  std::vector<LoadedImage> images;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i]) images.push_back(std::move(tree.images[i]));
  }
  tree.images = std::move(images);
  return missing;
}

std::string labels_of(const LoadedTree& tree) {
  std::string labels;
  for (const LoadedImage& image : tree.images) {
    labels += (labels.empty() ? "" : ", ") + printable(image.label());
  }
  return labels;
}

LoadedTree load_images(registry::Repository& repository, const std::string& reference, std::stop_token stop) {
  Loader loader(repository, std::move(stop));
  loader.load(reference, std::nullopt, 0);
  return std::move(loader.tree);
}

}  // namespace obd::tools
