#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "registry/docker_archive.h"
#include "registry/registry.h"
#include "registry/tar_archive.h"

namespace obd::registry {

/// An archive that `docker save` or `podman save` wrote. Read only: what is pushed is refused with a
/// UsageError that says where to push instead.
///
/// Such an archive has no image manifests. They are made here, in Docker's form and from its bytes alone, so
/// that an image has the same digest each time. A layer's digest is, where the layer is not compressed, the
/// diff ID that the config promises: pull_blob() verifies it like any other.
class DockerArchiveRepository final : public Repository {
 public:
  DockerArchiveRepository(std::filesystem::path file, std::filesystem::path work_directory);

  std::string name() const override;
  /// `reference`: "name:tag", a tag that only one image has, or the digest of a manifest made before.
  Manifest pull_manifest(const std::string& reference, std::stop_token stop) override;
  void pull_blob(const BlobId& blob, const BlobConsumer& consume, std::stop_token stop) override;
  std::unique_ptr<ByteSource> open_blob(const BlobId& blob) override;
  bool has_blob(const BlobId& blob, std::stop_token stop) override;
  /// For work whose result is pushed nowhere.
  std::unique_ptr<Spool> new_spool() override;
  Digest push_spool(std::shared_ptr<Spool> spool, std::stop_token stop) override;
  Digest push_bytes(std::string_view content, std::stop_token stop) override;
  Digest push_manifest(const std::optional<std::string>& tag, const std::string& media_type,
                       std::string_view bytes, std::stop_token stop) override;

 private:
  struct Layer {
    Digest digest;
    uint64_t size = 0;  // bytes
    std::string_view media_type;
  };

  /// Opens the archive and reads manifest.json, once. Needs lock_, as all below.
  void open(const std::stop_token& stop);
  const DockerArchiveImage& image_of(const std::string& tag, const std::stop_token& stop);
  const Manifest& manifest_of(const DockerArchiveImage& image, const std::stop_token& stop);
  Layer layer_of(const std::string& member, const Digest& diff_id, const std::stop_token& stop);
  std::shared_ptr<const ByteSource> require_member(const std::string& member) const;
  std::string make_manifest(const DockerArchiveImage& image, const std::stop_token& stop);
  std::shared_ptr<const ByteSource> find_blob(const Digest& digest, const std::stop_token& stop);

  /// Takes lock_ itself; throws if there is none or its size is another.
  std::shared_ptr<const ByteSource> require_blob(const BlobId& blob, const std::stop_token& stop);

  const std::filesystem::path file_;
  const std::filesystem::path work_directory_;

  std::mutex lock_;  // guards all below
  std::optional<TarArchive> archive_;
  std::vector<DockerArchiveImage> images_;
  std::map<DockerArchiveImage, Manifest> manifests_;  // as far as they were asked for
  std::map<Digest, std::shared_ptr<const ByteSource>> blobs_;
};

}  // namespace obd::registry
