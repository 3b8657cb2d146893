#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "registry/registry.h"

namespace obd::convertor {

/// os/architecture[/variant] as in an OCI index; empty where the index says nothing.
struct Platform {
  std::string os = {};
  std::string architecture = {};
  std::string variant = {};
  std::string os_version = {};
  /// "linux/arm64/v8"
  std::string text() const;
  /// "OS/ARCHITECTURE[/VARIANT]" in lower case. Throws UsageError.
  static Platform parse(std::string_view text);
  /// Whether an image for `other` is what is asked for by this one: no variant asks for any. arm64 without a
  /// variant is v8.
  bool matches(const Platform& other) const;
};

/// OCI content descriptor.
struct Descriptor {
  std::string media_type = {};
  Digest digest = {};
  uint64_t size = 0;  // bytes
  std::map<std::string, std::string> annotations = {};
  std::optional<Platform> platform = {};
  /// Where a foreign layer can be had; of other descriptors they are not read. Never written.
  std::vector<std::string> urls = {};

  registry::BlobId blob() const { return {digest, size}; }
};

struct ImageManifest {
  Descriptor config;
  std::vector<Descriptor> layers;  // lowest first
};

struct ImageConfig {
  std::vector<Digest> diff_ids;  // lowest first
  Platform platform;
};

struct ImageIndex {
  std::vector<Descriptor> manifests;
};

/// What a manifest's media type makes it; throws DataError for a type that is neither.
enum class ManifestKind { kImage, kIndex };
ManifestKind manifest_kind(const std::string& media_type);

/// Parse and check: sizes, digests and URLs in form, counts within bounds. Throw DataError that names the
/// digest.
ImageManifest parse_manifest(const registry::Manifest& manifest);
ImageIndex parse_index(const registry::Manifest& manifest);
/// `manifest` is named in messages; rootfs.type must be "layers".
ImageConfig parse_config(std::string_view bytes, const Digest& digest);

/// Throws DataError for an index with `depth` indexes around it if that is too many: at most 4 may be in one
/// another.
void check_index_depth(int depth);

/// Whether an index entry is an attestation (a statement about an image), not an image.
bool is_attestation(const Descriptor& descriptor);

/// Whether its layers are overlaybd's, so that there is nothing to convert.
bool is_overlaybd(const ImageManifest& manifest);

/// Throws DataError for a media type that is no layer of ours to read. How it is compressed, its bytes say.
void require_layer_type(const std::string& media_type);

/// Whether a layer is "foreign" (Docker) or "non-distributable" (OCI): it need not be in the registry, but
/// where its URLs say.
bool is_foreign_layer(const Descriptor& layer);

/// sha256(chain ID of the layers below + " " + diff ID); OCI image specification, "Layer ChainID".
std::vector<Digest> chain_ids(const std::vector<Digest>& diff_ids);

namespace annotation {
inline constexpr const char* kVersion = "containerd.io/snapshot/overlaybd/version";
inline constexpr const char* kBlobDigest = "containerd.io/snapshot/overlaybd/blob-digest";
inline constexpr const char* kBlobSize = "containerd.io/snapshot/overlaybd/blob-size";
}  // namespace annotation

/// Which family of media types a rewritten image uses.
enum class MediaTypes { kDocker, kOci };

/// The form of what is made of a manifest or an index.
struct ResultForm {
  MediaTypes types = MediaTypes::kDocker;
  /// What the result says that it refers to (OCI image specification 1.1, "subject"); it has overlaybd's
  /// artifact type then.
  std::optional<Descriptor> subject = {};
};

/// The same document with other content; everything that we don't know stays as it was, in its place.
/// `diff_ids` has as many elements as the manifest has layers. A separate base layer (one more diff ID than
/// `config` has) gains a history entry in front where the image has a history.
std::string rewrite_config(std::string_view config, const std::vector<Digest>& diff_ids);
std::string rewrite_manifest(std::string_view manifest, const ResultForm& form, const Descriptor& config,
                             const std::vector<Descriptor>& layers);
/// `manifests` replace the entries whose place is given: entry i of the result is the source's entry
/// `manifests[i].first` with digest, size and media type of `manifests[i].second`.
std::string rewrite_index(std::string_view index, const ResultForm& form,
                          const std::vector<std::pair<size_t, Descriptor>>& manifests);

/// An index of the source's entries at `places`, as they are, and behind them of the converted images, each
/// with its platform and overlaybd's artifact type: who knows nothing of that takes the first that fits.
std::string merge_index(std::string_view index, const std::vector<size_t>& places, const ResultForm& form,
                        const std::vector<Descriptor>& converted);
/// An index of one image.
std::string index_of(const Descriptor& image);

/// A converted image's config and manifest.
struct RewrittenImage {
  std::string config_bytes;
  std::string manifest_bytes;
  Descriptor config;
  Descriptor manifest;
};

/// What becomes of an image whose layers are `layers` now, the separate base layer among them: a function of
/// its arguments alone.
RewrittenImage rewrite_image(std::string_view manifest, std::string_view config, const ResultForm& form,
                             const std::vector<Descriptor>& layers);

/// The descriptor of a converted layer.
Descriptor layer_descriptor(const registry::BlobId& blob, MediaTypes types);

}  // namespace obd::convertor
