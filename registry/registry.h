#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "common/byte_source.h"
#include "common/digest.h"
#include "common/error.h"
#include "common/spool.h"
#include "registry/retry.h"

namespace obd::registry {

/// What identifies a blob: the size is checked as well as the digest.
struct BlobId {
  Digest digest;
  uint64_t size = 0;  // bytes
};

/// A manifest or an index, byte for byte as the registry holds it.
struct Manifest {
  std::string media_type;
  std::string bytes;
  Digest digest;
  /// What the registry calls this state of the tag that was asked for, if it says (RFC 9110, "ETag").
  std::optional<std::string> etag = {};
};

/// A repository of a registry; repositories with the same authority can share blobs without moving them.
struct RepositoryLocation {
  std::string authority;  // "localhost:5000"
  std::string path;       // "acme/app"
};

/// A manifest that names another as its `subject`: a signature, an SBOM, an image converted from it.
struct Referrer {
  BlobId manifest;
  std::string media_type;
  /// What it is; the media type of its config if it does not say.
  std::string artifact_type;
  std::map<std::string, std::string> annotations = {};
};

/// Takes the next bytes of a blob. What it throws ends the transfer and reaches the caller of pull_blob().
using BlobConsumer = std::function<void(std::span<const std::byte>)>;

/// The largest manifest, index or config that is read.
inline constexpr uint64_t kMaxManifestBytes = 4 << 20;

/// One repository: behind HTTP, a directory in OCI image layout, or an archive. Everything below is pulled
/// from it and pushed to it through this interface alone.
///
/// Threads: every method may be called from any number of threads.
/// Errors:  NetworkError and AuthError from a registry, IoError from files, DataError where content
///          does not have the digest or the size that its name promises; Cancelled where `stop` fired.
/// Source:  OCI distribution specification 1.1; OCI image layout 1.0.
class Repository {
 public:
  virtual ~Repository() = default;

  /// For messages and results: "localhost:5000/acme/app" or "oci:/path". Holds no secret.
  virtual std::string name() const = 0;

  /// None for what is no registry.
  virtual std::optional<RepositoryLocation> location() const { return std::nullopt; }

  /// `reference`: a tag or a digest. The bytes are verified against a digest that was asked for, and against
  /// Docker-Content-Digest. Throws NetworkError with status 404 (IoError from a layout) if there is none.
  virtual Manifest pull_manifest(const std::string& reference, std::stop_token stop) = 0;

  /// Streams a whole blob in order and verifies it: returns only if every byte was delivered and digest and
  /// size are right. The consumer must not treat anything as verified before that.
  virtual void pull_blob(const BlobId& blob, const BlobConsumer& consume, std::stop_token stop) = 0;

  /// Random access, unverified: the formats above carry their own checksums. The source keeps what it needs
  /// of the repository alive.
  virtual std::unique_ptr<ByteSource> open_blob(const BlobId& blob) = 0;

  virtual bool has_blob(const BlobId& blob, std::stop_token stop) = 0;

  /// Asks the registry to take the blob over from another of its repositories. True: the blob is here now.
  /// False: it must be pushed; who may not do that is told so then, since a registry refuses a mount for many
  /// reasons.
  virtual bool mount_blob(const BlobId& blob, const std::string& from_repository_path, std::stop_token stop);

  /// A place to assemble a blob, laid out so that push_spool() is cheap: inside a layout, it is renamed.
  virtual std::unique_ptr<Spool> new_spool() = 0;

  /// Publishes a spool of this repository's new_spool(), to which nothing is appended any more. Nothing is
  /// sent if the repository has the blob. An upload session is cancelled if this fails or is stopped. In a
  /// layout, which nobody cleans up, the blob gets its name with the next manifest that is pushed; this
  /// repository can read it at once.
  virtual Digest push_spool(std::shared_ptr<Spool> spool, std::stop_token stop) = 0;

  /// Makes a pushed blob stay even if no manifest comes to name it. In a registry, every blob does, for a
  /// while; in an archive, none does.
  virtual void keep_blob(const Digest&) {}
  virtual bool can_keep_blobs() const { return true; }

  /// As push_spool(), for small content (a config); nothing is sent if the repository has it.
  virtual Digest push_bytes(std::string_view content, std::stop_token stop) = 0;

  /// `tag`: none pushes by digest alone. The caller has pushed all that the manifest names. One with a
  /// `subject` is found by list_referrers() afterwards, also where the registry keeps no such list itself.
  /// A registry that looks whether it has what the manifest names, as not all of them do, refuses it with
  /// one 4xx status or another.
  virtual Digest push_manifest(const std::optional<std::string>& tag, const std::string& media_type,
                               std::string_view bytes, std::stop_token stop) = 0;

  /// As push_manifest(), if `tag` still names `expected` (none: nothing). False: it names something else and
  /// goes on doing so. A layout holds its lock in between. A registry that does not heed If-Match, as few do,
  /// cannot tell what happened since `expected` was pulled: look afterwards what became of the tag.
  virtual bool replace_manifest(const std::string& tag, const std::optional<Manifest>& expected,
                                const std::string& media_type, std::string_view bytes, std::stop_token stop);

  /// The manifests whose subject is `subject`, which need not exist. What keeps no referrers has none.
  virtual std::vector<Referrer> list_referrers(const Digest& subject, std::stop_token stop);
};

/// None where the repository, or the layout, has no such manifest.
std::optional<Manifest> find_manifest(Repository& repository, const std::string& reference,
                                      std::stop_token stop);

/// Brings a blob from one repository to another: nothing moves if it is there, or if both are in one registry
/// that can mount it. Else it is pulled, verified, and pushed.
void copy_blob(Repository& source, Repository& target, const BlobId& blob, std::stop_token stop);

/// pull_blob() into memory. Throws DataError if the blob claims to be larger than kMaxManifestBytes.
std::string pull_small_blob(Repository& repository, const BlobId& blob, std::stop_token stop);

/// The user and the password of one host, or a token that stands for both. Never printed.
struct Credential {
  std::string user = {};
  std::string password = {};
  /// For token services alone (OAuth2 calls it a refresh token). Used before user and password where it is
  /// set.
  std::string identity_token = {};
  /// For the registry itself, which wants a bearer token: no service is asked for one then.
  std::string registry_token = {};

  bool operator==(const Credential&) const = default;
};

/// Whom to trust, and who we are, where a connection is encrypted. Files are PEM.
struct TlsOptions {
  struct ClientCertificate {
    std::filesystem::path certificate;  // with its chain, if it has one
    std::filesystem::path key;          // not encrypted
    bool operator==(const ClientCertificate&) const = default;
  };
  /// As Docker lays them out: NAME.crt is a root CA, NAME.cert with NAME.key a client's certificate.
  std::vector<std::filesystem::path> cert_dirs = {};
  /// Trusted beside the system's.
  std::vector<std::filesystem::path> root_cas = {};
  /// The first whose issuer the server names is shown to it.
  std::vector<ClientCertificate> client_certificates = {};
  /// Trusts any certificate, and tries plain HTTP where there is no HTTPS.
  bool insecure = false;

  bool operator==(const TlsOptions&) const = default;
};

struct RepositoryOptions {
  /// For this repository's registry alone. Without one the files in which other tools keep theirs are looked
  /// through once the registry asks for a login (registry/README.md, "Credentials").
  std::optional<Credential> credential = {};
  /// HTTP instead of HTTPS. Loopback hosts are tried over HTTPS first, then HTTP, without it.
  bool plain_http = false;
  TlsOptions tls = {};
  /// Where spools of a remote repository go once they outgrow `spool_memory_bytes`, and what is pushed to an
  /// archive until the archive is written. Clearing it of what killed processes left is its owner's business.
  std::filesystem::path work_directory = "tmp_conv";
  uint64_t spool_memory_bytes = 8 << 20;
  /// How often what fails for the moment is tried, and how long is waited in between.
  RetryPolicy retry = {};

  bool operator==(const RepositoryOptions&) const = default;
};

/// What a repository's name stands for, by its prefix.
enum class Place {
  kRegistry,
  kLayout,         // "oci:DIRECTORY"
  kOciArchive,     // "oci-archive:FILE"
  kDockerArchive,  // "docker-archive:FILE", which can only be read
};
Place place_of(std::string_view where);

/// `where`: "oci:DIRECTORY" or "oci-archive:FILE" (made if missing when something is pushed),
/// "docker-archive:FILE", or HOST[:PORT]/NAME in the forms that Docker accepts ("ubuntu" is
/// docker.io/library/ubuntu). Throws UsageError if it is none of them, and for TLS files that cannot be used.
std::unique_ptr<Repository> open_repository(const std::string& where, const RepositoryOptions& options);

/// The host that credentials for `where` belong to: "docker.io", "localhost:5000". Empty unless it is a name
/// in a registry.
std::string registry_host(const std::string& where);

/// Whether `tag` has the form that the distribution specification allows.
bool is_valid_tag(std::string_view tag);

namespace media_type {
inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kOciLayer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kOciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view kOciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr std::string_view kOciForeignLayer =
    "application/vnd.oci.image.layer.nondistributable.v1.tar";
inline constexpr std::string_view kOciForeignLayerGzip =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
inline constexpr std::string_view kOciForeignLayerZstd =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
inline constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerIndex = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view kDockerLayer = "application/vnd.docker.image.rootfs.diff.tar";
inline constexpr std::string_view kDockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
inline constexpr std::string_view kDockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd";
inline constexpr std::string_view kDockerForeignLayer =
    "application/vnd.docker.image.rootfs.foreign.diff.tar";
inline constexpr std::string_view kDockerForeignLayerGzip =
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
}  // namespace media_type

}  // namespace obd::registry
