#include "convertor/image_graph.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"
#include "common/log.h"

namespace obd::convertor {
namespace {

/// An ordinary manifest has some KiB; all of them stay in memory, and what is made of them too.
constexpr uint64_t kMaxBytes = 32 << 20;

class GraphReader {
 public:
  GraphReader(const SourcePlace& source, const ConvertOptions& options, const std::stop_token& stop)
      : source_(source), options_(options), stop_(stop) {}

  ImageGraph read(const std::string& reference) {
    registry::Manifest manifest = source_.repository.pull_manifest(reference, stop_);
    graph_.root = manifest.digest;
    const Verdict verdict = read(std::move(manifest), std::nullopt, 0);
    require_platforms();
    if (graph_.images.empty()) refuse_converted(verdict);
    return std::move(graph_);
  }

 private:
  enum class Verdict { kWanted, kOtherPlatform, kConvertedAlready };

  Verdict read(registry::Manifest manifest, std::optional<Platform> platform, int depth);
  void read_children(SourceNode& node, int depth);
  Verdict read_child(const Descriptor& child, int depth);
  Verdict judge(SourceNode& image);
  bool is_asked_for(const Platform& platform);
  void require_platforms() const;
  [[noreturn]] void refuse_converted(Verdict root) const;
  void skip(const Descriptor& child, std::string_view what);

  const SourcePlace& source_;
  const ConvertOptions& options_;
  const std::stop_token& stop_;
  ImageGraph graph_;
  std::map<Digest, Verdict> verdicts_;  // of all that was pulled
  std::vector<Platform> refused_;       // platforms of images that nobody asked for, each once
  uint64_t bytes_ = 0;                  // of all manifests
};

GraphReader::Verdict GraphReader::read(registry::Manifest manifest, std::optional<Platform> platform,
                                       int depth) {
  const Digest digest = manifest.digest;
  bytes_ += manifest.bytes.size();
  if (bytes_ > kMaxBytes) {
    throw DataError(fmt::format("index {}: the manifests that it leads to have more than {} MiB in all",
                                graph_.root.text(), kMaxBytes >> 20));
  }
  SourceNode node{.manifest = std::move(manifest), .platform = std::move(platform)};
  node.is_index = manifest_kind(node.manifest.media_type) == ManifestKind::kIndex;
  Verdict verdict = Verdict::kWanted;
  if (node.is_index) {
    read_children(node, depth);
    if (node.children.empty()) verdict = Verdict::kOtherPlatform;
  } else {
    verdict = judge(node);
    if (depth > 0) node.label = node.platform ? node.platform->text() : std::string(digest.brief());
    if (verdict == Verdict::kWanted) graph_.images.push_back(digest);
  }
  verdicts_[digest] = verdict;
  if (verdict == Verdict::kWanted) graph_.nodes.emplace(digest, std::move(node));
  return verdict;
}

void GraphReader::skip(const Descriptor& child, std::string_view what) {
  log::warn("left out: {} is {}", child.digest.text(), what);
  graph_.skipped.push_back(child.digest);
}

void GraphReader::read_children(SourceNode& node, int depth) {
  check_index_depth(depth);
  const ImageIndex index = parse_index(node.manifest);
  bool has_images = false;
  for (size_t place = 0; place < index.manifests.size(); ++place) {
    const Descriptor& child = index.manifests[place];
    const bool all_platforms = options_.platforms.empty();
    if (is_attestation(child)) {
      skip(child, "an attestation about the source image, not an image");
      if (all_platforms) node.kept.push_back(place);
      continue;
    }
    has_images = true;
    const Verdict verdict = read_child(child, depth + 1);
    if (verdict == Verdict::kConvertedAlready) {
      skip(child, "an overlaybd image already");
      continue;
    }
    if (verdict == Verdict::kWanted) node.children.emplace_back(place, child.digest);
    if (verdict == Verdict::kWanted || all_platforms) node.kept.push_back(place);
  }
  if (!has_images) throw DataError(fmt::format("index {} names no image", node.manifest.digest.text()));
}

GraphReader::Verdict GraphReader::read_child(const Descriptor& child, int depth) {
  if (child.size > registry::kMaxManifestBytes) {
    throw DataError(fmt::format("manifest {} claims {} bytes", child.digest.text(), child.size));
  }
  const bool is_image = child.media_type == registry::media_type::kOciManifest ||
                        child.media_type == registry::media_type::kDockerManifest;
  if (is_image && child.platform && !is_asked_for(*child.platform)) return Verdict::kOtherPlatform;
  const auto known = verdicts_.find(child.digest);
  if (known != verdicts_.end()) return known->second;
  registry::Manifest manifest = source_.repository.pull_manifest(child.digest.text(), stop_);
  if (manifest.bytes.size() != child.size) {
    throw DataError(fmt::format("manifest {} has {} bytes, but the index that names it says {}",
                                child.digest.text(), manifest.bytes.size(), child.size));
  }
  return read(std::move(manifest), child.platform, depth);
}

/// An index need not say for which platform an image is; its config does.
GraphReader::Verdict GraphReader::judge(SourceNode& image) {
  if (is_overlaybd(parse_manifest(image.manifest))) return Verdict::kConvertedAlready;
  if (options_.platforms.empty()) return Verdict::kWanted;
  if (!image.platform) {
    image.platform = read_source_image(source_, image.manifest, options_, stop_).config.platform;
  }
  return is_asked_for(*image.platform) ? Verdict::kWanted : Verdict::kOtherPlatform;
}

bool GraphReader::is_asked_for(const Platform& platform) {
  const auto& wanted = options_.platforms;
  if (wanted.empty()) return true;
  if (std::any_of(wanted.begin(), wanted.end(), [&](const Platform& one) { return one.matches(platform); })) {
    return true;
  }
  const auto is_same = [&](const Platform& one) { return one.text() == platform.text(); };
  if (std::none_of(refused_.begin(), refused_.end(), is_same)) refused_.push_back(platform);
  return false;
}

void GraphReader::require_platforms() const {
  for (const Platform& wanted : options_.platforms) {
    const bool found = std::any_of(graph_.images.begin(), graph_.images.end(), [&](const Digest& digest) {
      return wanted.matches(graph_.nodes.at(digest).platform.value());
    });
    if (found) continue;
    std::string there;
    const auto add = [&](const Platform& platform) {
      there += fmt::format("{}{}", there.empty() ? "" : ", ", platform.text());
    };
    for (const Digest& digest : graph_.images) add(graph_.nodes.at(digest).platform.value());
    for (const Platform& platform : refused_) add(platform);
    throw UsageError(fmt::format("the source has no image for the platform {}; it has {}", wanted.text(),
                                 there.empty() ? "overlaybd images alone" : there));
  }
}

void GraphReader::refuse_converted(Verdict root) const {
  if (root == Verdict::kConvertedAlready) {
    throw UsageError(fmt::format("{} is an overlaybd image already; give the tag of its source image",
                                 graph_.root.text()));
  }
  throw UsageError(fmt::format("all images of index {} are overlaybd images already", graph_.root.text()));
}

}  // namespace

Descriptor SourceNode::descriptor() const {
  return {.media_type = manifest.media_type,
          .digest = manifest.digest,
          .size = manifest.bytes.size(),
          .annotations = {},
          .platform = platform};
}

ImageGraph read_image_graph(const SourcePlace& source, const ConvertOptions& options,
                            const std::string& reference, const std::stop_token& stop) {
  return GraphReader(source, options, stop).read(reference);
}

}  // namespace obd::convertor
