#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>

#include "registry/index_document.h"
#include "registry/registry.h"
#include "registry/tar_archive.h"

namespace obd::registry {

/// An OCI image layout in one tar file. What is pushed is kept in files without names until a manifest with a
/// tag or a subject is pushed: then a new archive, with all that the old one holds, takes the file's name. A
/// run that fails leaves the old one as it was, and who reads it goes on reading it.
///
/// Processes may share a file: its directory is locked while it is replaced, so no tag is lost.
class OciArchiveRepository final : public Repository {
 public:
  OciArchiveRepository(std::filesystem::path file, std::filesystem::path work_directory);

  std::string name() const override;
  Manifest pull_manifest(const std::string& reference, std::stop_token stop) override;
  void pull_blob(const BlobId& blob, const BlobConsumer& consume, std::stop_token stop) override;
  std::unique_ptr<ByteSource> open_blob(const BlobId& blob) override;
  bool has_blob(const BlobId& blob, std::stop_token stop) override;
  std::unique_ptr<Spool> new_spool() override;
  Digest push_spool(std::shared_ptr<Spool> spool, std::stop_token stop) override;
  bool can_keep_blobs() const override { return false; }
  Digest push_bytes(std::string_view content, std::stop_token stop) override;
  /// Without a tag and a subject the manifest waits for the next one that has either; this repository can
  /// read it at once.
  Digest push_manifest(const std::optional<std::string>& tag, const std::string& media_type,
                       std::string_view bytes, std::stop_token stop) override;
  std::vector<Referrer> list_referrers(const Digest& subject, std::stop_token stop) override;

 private:
  using Blobs = std::map<Digest, std::shared_ptr<const ByteSource>>;

  /// The archive as it is now; null if there is none yet.
  std::shared_ptr<const TarArchive> archive(const std::stop_token& stop) const;
  std::string read_index(const TarArchive& archive) const;
  LayoutEntry entry_for(const std::string& reference, const std::stop_token& stop) const;
  /// A staged blob, or one of the archive; null if there is none.
  std::shared_ptr<const ByteSource> find_blob(const Digest& digest, const std::stop_token& stop) const;
  /// Likewise; throws if there is none or its size is another.
  std::shared_ptr<const ByteSource> require_blob(const BlobId& blob, const std::stop_token& stop) const;
  void refuse_compressed(const TarArchive& archive) const;
  void write_archive(const std::optional<std::string>& tag, const LayoutEntry& entry,
                     const std::stop_token& stop);

  const std::string name_;
  const std::filesystem::path file_;  // absolute
  const std::filesystem::path work_directory_;
  std::once_flag prepared_;

  mutable std::mutex opening_;  // guards opened_; held while an archive is opened
  mutable std::shared_ptr<const TarArchive> opened_;

  mutable std::mutex staging_;  // guards staged_
  Blobs staged_;
};

}  // namespace obd::registry
