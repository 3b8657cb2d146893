#include "registry/docker_archive_repository.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"
#include "common/json.h"
#include "registry/local_blob.h"
#include "registry/unpack.h"

namespace obd::registry {
namespace {

constexpr size_t kUntaggedToName = 8;

Digest digest_of(const ByteSource& source, const std::stop_token& stop) {
  Sha256 hash;
  std::vector<std::byte> buffer(std::min<uint64_t>(256 << 10, source.size()));
  for (uint64_t offset = 0; offset < source.size();) {
    throw_if_stopped(stop);
    const std::span piece(buffer.data(), std::min<uint64_t>(buffer.size(), source.size() - offset));
    source.read_at(offset, piece);
    hash.update(piece);
    offset += piece.size();
  }
  return hash.finish();
}

Json descriptor(std::string_view media_type, uint64_t size, const Digest& digest) {
  return {{"mediaType", media_type}, {"size", size}, {"digest", digest.text()}};
}

}  // namespace

DockerArchiveRepository::DockerArchiveRepository(std::filesystem::path file,
                                                 std::filesystem::path work_directory)
    : file_(std::move(file)), work_directory_(std::move(work_directory)) {}

std::string DockerArchiveRepository::name() const {
  return fmt::format("docker-archive:{}", file_.string());
}

void DockerArchiveRepository::open(const std::stop_token& stop) {
  throw_if_stopped(stop);
  if (archive_) return;
  TarArchive opened(file_, work_directory_, stop);
  if (!opened.index().contains("manifest.json")) {
    const bool layout = opened.index().contains("oci-layout");
    throw DataError(fmt::format("{}: no archive of 'docker save' (it has no member manifest.json){}", name(),
                                layout ? "; it looks like an oci-archive: name it so" : ""));
  }
  images_ = parse_docker_manifest(opened.read("manifest.json", kMaxDockerManifestBytes), name());
  archive_ = std::move(opened);
}

std::shared_ptr<const ByteSource> DockerArchiveRepository::require_member(const std::string& member) const {
  auto source = archive_->open(member);
  if (!source) {
    throw DataError(
        fmt::format("{}: manifest.json names '{}', which is not there", name(), shown_name(member)));
  }
  return source;
}

DockerArchiveRepository::Layer DockerArchiveRepository::layer_of(const std::string& member,
                                                                 const Digest& diff_id,
                                                                 const std::stop_token& stop) {
  auto source = require_member(member);
  Layer layer{.digest = diff_id, .size = source->size(), .media_type = media_type::kDockerLayer};
  const auto compression = compression_of(*source);
  if (compression == "gzip" || compression == "zstd") {
    layer.digest = digest_of(*source, stop);
    layer.media_type = compression == "gzip" ? media_type::kDockerLayerGzip : media_type::kDockerLayerZstd;
  }
  blobs_.emplace(layer.digest, std::move(source));
  return layer;
}

std::string DockerArchiveRepository::make_manifest(const DockerArchiveImage& image,
                                                   const std::stop_token& stop) {
  const auto config_source = require_member(image.config);
  const std::string config = archive_->read(image.config, kMaxManifestBytes);
  const std::vector<Digest> diff_ids =
      parse_diff_ids(config, fmt::format("{}: {}", name(), shown_name(image.config)));
  if (diff_ids.size() != image.layers.size()) {
    throw DataError(fmt::format("{}: {} lists {} diff IDs, but manifest.json {} layers", name(),
                                shown_name(image.config), diff_ids.size(), image.layers.size()));
  }
  const Digest config_digest = Digest::of(config);
  blobs_.emplace(config_digest, config_source);
  Json manifest = {{"schemaVersion", 2},
                   {"mediaType", media_type::kDockerManifest},
                   {"config", descriptor(media_type::kDockerConfig, config.size(), config_digest)},
                   {"layers", Json::array()}};
  for (size_t i = 0; i < diff_ids.size(); ++i) {
    const Layer layer = layer_of(image.layers[i], diff_ids[i], stop);
    manifest["layers"].push_back(descriptor(layer.media_type, layer.size, layer.digest));
  }
  return manifest.dump();
}

const Manifest& DockerArchiveRepository::manifest_of(const DockerArchiveImage& image,
                                                     const std::stop_token& stop) {
  const auto made = manifests_.find(image);
  if (made != manifests_.end()) return made->second;
  std::string bytes = make_manifest(image, stop);
  const Digest digest = Digest::of(bytes);
  return manifests_
      .emplace(image, Manifest{std::string(media_type::kDockerManifest), std::move(bytes), digest})
      .first->second;
}

/// Images without a tag can only be asked for by a digest that stands nowhere in the archive: tell it.
const DockerArchiveImage& DockerArchiveRepository::image_of(const std::string& tag,
                                                            const std::stop_token& stop) {
  if (const DockerArchiveImage* image = find_docker_image(images_, tag, name())) return *image;
  std::string untagged;
  size_t count = 0;
  for (const DockerArchiveImage& image : images_) {
    if (!image.repo_tags.empty() || ++count > kUntaggedToName) continue;
    untagged += fmt::format("{}{}", untagged.empty() ? "; without a tag, by digest: " : ", ",
                            manifest_of(image, stop).digest.text());
  }
  throw IoError(fmt::format("{}: no image has the tag '{}'; {}{}", name(), shown_name(tag),
                            describe_docker_tags(images_), untagged));
}

Manifest DockerArchiveRepository::pull_manifest(const std::string& reference, std::stop_token stop) {
  const std::lock_guard lock(lock_);
  open(stop);
  if (!reference.starts_with("sha256:")) return manifest_of(image_of(reference, stop), stop);
  const Digest digest = Digest::parse(reference);
  for (const DockerArchiveImage& image : images_) {
    const Manifest& manifest = manifest_of(image, stop);
    if (manifest.digest == digest) return manifest;
  }
  throw IoError(
      fmt::format("{}: there is no manifest {}; {}", name(), digest.text(), describe_docker_tags(images_)));
}

/// What belongs to images that nobody has asked for is found by making their manifests.
std::shared_ptr<const ByteSource> DockerArchiveRepository::find_blob(const Digest& digest,
                                                                     const std::stop_token& stop) {
  open(stop);
  auto found = blobs_.find(digest);
  for (auto image = images_.begin(); found == blobs_.end() && image != images_.end(); ++image) {
    manifest_of(*image, stop);
    found = blobs_.find(digest);
  }
  return found == blobs_.end() ? nullptr : found->second;
}

std::shared_ptr<const ByteSource> DockerArchiveRepository::require_blob(const BlobId& blob,
                                                                        const std::stop_token& stop) {
  const std::lock_guard lock(lock_);
  auto source = find_blob(blob.digest, stop);
  if (!source) throw IoError(fmt::format("{}: there is no blob {}", name(), blob.digest.text()));
  check_blob_size(blob, source->size(), name());
  return source;
}

void DockerArchiveRepository::pull_blob(const BlobId& blob, const BlobConsumer& consume,
                                        std::stop_token stop) {
  pull_from(*require_blob(blob, stop), blob, consume, stop, name());
}

std::unique_ptr<ByteSource> DockerArchiveRepository::open_blob(const BlobId& blob) {
  return std::make_unique<SubSource>(require_blob(blob, {}), 0, blob.size);
}

bool DockerArchiveRepository::has_blob(const BlobId& blob, std::stop_token stop) {
  const std::lock_guard lock(lock_);
  const auto source = find_blob(blob.digest, stop);
  return source && source->size() == blob.size;
}

std::unique_ptr<Spool> DockerArchiveRepository::new_spool() {
  return std::make_unique<Spool>(Spool::Options{.directory = work_directory_, .memory_limit = 0});
}

[[noreturn]] static void refuse_push(const std::string& name) {
  throw UsageError(
      fmt::format("{} can only be read: push to oci-archive:FILE, oci:DIRECTORY or a registry", name));
}

Digest DockerArchiveRepository::push_spool(std::shared_ptr<Spool>, std::stop_token) {
  refuse_push(name());
}

Digest DockerArchiveRepository::push_bytes(std::string_view, std::stop_token) {
  refuse_push(name());
}

Digest DockerArchiveRepository::push_manifest(const std::optional<std::string>&, const std::string&,
                                              std::string_view, std::stop_token) {
  refuse_push(name());
}

}  // namespace obd::registry
