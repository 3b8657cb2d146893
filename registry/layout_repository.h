#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>

#include "registry/layout_index.h"
#include "registry/registry.h"

namespace obd::registry {

/// A directory in OCI image layout. Made, and cleared of what killed processes left in it, at the first push.
/// Blobs are staged as files without names until a manifest is pushed: a run that fails leaves nothing.
class LayoutRepository final : public Repository {
 public:
  explicit LayoutRepository(std::filesystem::path directory);

  std::string name() const override;
  Manifest pull_manifest(const std::string& reference, std::stop_token stop) override;
  void pull_blob(const BlobId& blob, const BlobConsumer& consume, std::stop_token stop) override;
  std::unique_ptr<ByteSource> open_blob(const BlobId& blob) override;
  bool has_blob(const BlobId& blob, std::stop_token stop) override;
  std::unique_ptr<Spool> new_spool() override;
  Digest push_spool(std::shared_ptr<Spool> spool, std::stop_token stop) override;
  void keep_blob(const Digest& digest) override;
  Digest push_bytes(std::string_view content, std::stop_token stop) override;
  Digest push_manifest(const std::optional<std::string>& tag, const std::string& media_type,
                       std::string_view bytes, std::stop_token stop) override;
  bool replace_manifest(const std::string& tag, const std::optional<Manifest>& expected,
                        const std::string& media_type, std::string_view bytes, std::stop_token stop) override;
  std::vector<Referrer> list_referrers(const Digest& subject, std::stop_token stop) override;

 private:
  std::filesystem::path blob_path(const Digest& digest) const;
  /// A staged blob, or one of the directory.
  std::shared_ptr<const ByteSource> find_blob(const Digest& digest) const;
  /// Likewise; its size is checked.
  std::shared_ptr<const ByteSource> find_blob(const BlobId& blob) const;
  /// Makes all that was staged, and this manifest, files of the directory.
  LayoutEntry publish(const std::string& media_type, std::string_view bytes, const std::stop_token& stop);
  void publish_staged();
  void prepare_for_writing();
  LayoutEntry entry_for(const std::string& reference) const;

  const std::filesystem::path directory_;
  const LayoutIndex index_;
  std::once_flag prepared_;

  mutable std::mutex mutex_;  // guards staged_
  std::map<Digest, std::shared_ptr<Spool>> staged_;
};

}  // namespace obd::registry
