#pragma once

#include <filesystem>
#include <functional>
#include <mutex>

#include "registry/client.h"
#include "registry/referrers.h"
#include "registry/registry.h"
#include "registry/upload.h"

namespace obd::registry {

/// A repository of a registry that speaks the distribution protocol.
class HttpRepository final : public Repository {
 public:
  struct Options {
    ClientOptions client;
    std::filesystem::path work_directory;
    uint64_t spool_memory_bytes = 0;
  };
  HttpRepository(RepositoryName name, Options options);

  std::string name() const override;
  std::optional<RepositoryLocation> location() const override;
  Manifest pull_manifest(const std::string& reference, std::stop_token stop) override;
  void pull_blob(const BlobId& blob, const BlobConsumer& consume, std::stop_token stop) override;
  std::unique_ptr<ByteSource> open_blob(const BlobId& blob) override;
  bool has_blob(const BlobId& blob, std::stop_token stop) override;
  bool mount_blob(const BlobId& blob, const std::string& from_repository_path, std::stop_token stop) override;
  std::unique_ptr<Spool> new_spool() override;
  Digest push_spool(std::shared_ptr<Spool> spool, std::stop_token stop) override;
  Digest push_bytes(std::string_view content, std::stop_token stop) override;
  Digest push_manifest(const std::optional<std::string>& tag, const std::string& media_type,
                       std::string_view bytes, std::stop_token stop) override;
  bool replace_manifest(const std::string& tag, const std::optional<Manifest>& expected,
                        const std::string& media_type, std::string_view bytes, std::stop_token stop) override;
  std::vector<Referrer> list_referrers(const Digest& subject, std::stop_token stop) override;

 private:
  std::optional<HttpResponse> put_manifest(const std::string& reference, const Digest& digest,
                                           const std::string& media_type, std::string_view bytes,
                                           const std::optional<std::string>& if_match,
                                           const std::stop_token& stop);
  void push_unless_there(const BlobId& blob, const std::function<void()>& push, const std::stop_token& stop);
  void add_to_referrers(const std::optional<Referral>& referral, const HttpResponse& response,
                        const std::stop_token& stop);

  const std::shared_ptr<RegistryClient> client_;  // shared with the sources of open_blob()
  BlobUploader uploader_;
  const std::filesystem::path work_directory_;
  const uint64_t spool_memory_bytes_;
};

}  // namespace obd::registry
