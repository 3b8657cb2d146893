#include "registry/registry.h"

#include <fmt/format.h>

#include "common/error.h"
#include "registry/credentials.h"
#include "registry/docker_archive_repository.h"
#include "registry/http_repository.h"
#include "registry/layout_repository.h"
#include "registry/oci_archive_repository.h"
#include "registry/reference.h"
#include "registry/tar_archive.h"
#include "registry/tls.h"

namespace obd::registry {

bool Repository::mount_blob(const BlobId& blob, const std::string& /*from_repository_path*/,
                            std::stop_token stop) {
  return has_blob(blob, std::move(stop));
}

bool Repository::replace_manifest(const std::string& tag, const std::optional<Manifest>& expected,
                                  const std::string& media_type, std::string_view bytes,
                                  std::stop_token stop) {
  const auto current = find_manifest(*this, tag, stop);
  const bool same = current && expected ? current->digest == expected->digest : !current && !expected;
  if (same) push_manifest(tag, media_type, bytes, std::move(stop));
  return same;
}

std::vector<Referrer> Repository::list_referrers(const Digest& /*subject*/, std::stop_token /*stop*/) {
  return {};
}

std::optional<Manifest> find_manifest(Repository& repository, const std::string& reference,
                                      std::stop_token stop) {
  try {
    return repository.pull_manifest(reference, std::move(stop));
  } catch (const NetworkError& error) {
    if (error.http_status() != 404) throw;
  } catch (const IoError&) {  // from a layout or an archive
  }
  return std::nullopt;
}

void copy_blob(Repository& source, Repository& target, const BlobId& blob, std::stop_token stop) {
  if (target.has_blob(blob, stop)) return;
  const auto from = source.location();
  const auto to = target.location();
  if (from && to && from->authority == to->authority && target.mount_blob(blob, from->path, stop)) return;
  const std::shared_ptr<Spool> spool = target.new_spool();
  source.pull_blob(
      blob, [&](std::span<const std::byte> data) { spool->append(data); }, stop);
  target.push_spool(spool, stop);
}

std::string pull_small_blob(Repository& repository, const BlobId& blob, std::stop_token stop) {
  if (blob.size > kMaxManifestBytes) {
    throw DataError(fmt::format("{}: {} claims {} bytes, more than the {} that are read", repository.name(),
                                blob.digest.text(), blob.size, kMaxManifestBytes));
  }
  std::string content;
  content.reserve(blob.size);
  repository.pull_blob(
      blob,
      [&](std::span<const std::byte> data) {
        content.append(reinterpret_cast<const char*>(data.data()), data.size());
      },
      std::move(stop));
  return content;
}

Place place_of(std::string_view where) {
  if (where.starts_with("oci:")) return Place::kLayout;
  if (where.starts_with("oci-archive:")) return Place::kOciArchive;
  if (where.starts_with("docker-archive:")) return Place::kDockerArchive;
  return Place::kRegistry;
}

std::unique_ptr<Repository> open_repository(const std::string& where, const RepositoryOptions& options) {
  const Place place = place_of(where);
  if (place != Place::kRegistry) {
    const std::string kind = where.substr(0, where.find(':'));
    const std::string path = where.substr(kind.size() + 1);
    if (place == Place::kOciArchive) {
      return std::make_unique<OciArchiveRepository>(archive_path(kind, path), options.work_directory);
    }
    if (place == Place::kDockerArchive) {
      return std::make_unique<DockerArchiveRepository>(archive_path(kind, path), options.work_directory);
    }
    if (path.empty()) throw UsageError("'oci:' needs a directory: oci:DIRECTORY");
    return std::make_unique<LayoutRepository>(path);
  }
  const RepositoryName name = parse_repository_name(where);
  ClientOptions client{
      .credential = options.credential, .plain_http = options.plain_http, .retry = options.retry};
  client.find_credential = [name](const std::stop_token& stop) {
    return find_credential(name, auth_files_of_environment(), stop);
  };
  client.transport.tls = TlsContext::load(options.tls);
  return std::make_unique<HttpRepository>(
      name, HttpRepository::Options{.client = std::move(client),
                                    .work_directory = options.work_directory,
                                    .spool_memory_bytes = options.spool_memory_bytes});
}

std::string registry_host(const std::string& where) {
  if (place_of(where) != Place::kRegistry) return {};
  try {
    return parse_repository_name(where).host();
  } catch (const UsageError&) {
    return {};
  }
}

}  // namespace obd::registry
