#include "registry/oci_archive_repository.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "common/error.h"
#include "common/unique_fd.h"
#include "registry/local_blob.h"
#include "registry/manifest_form.h"
#include "registry/reference.h"
#include "registry/referrers.h"
#include "registry/tar_writer.h"

namespace obd::registry {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarkerName = "oci-layout";
constexpr const char* kIndexName = "index.json";
constexpr auto kLockPoll = std::chrono::milliseconds(50);

std::string blob_name(const Digest& digest) {
  return fmt::format("blobs/sha256/{}", digest.hex());
}

/// A text as the content of a member.
class TextSource final : public ByteSource {
 public:
  explicit TextSource(std::string text) : text_(std::move(text)) {}
  uint64_t size() const override { return text_.size(); }
  std::string name() const override { return kIndexName; }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override {
    const auto bytes = std::as_bytes(std::span(text_)).subspan(offset, out.size());
    std::copy(bytes.begin(), bytes.end(), out.begin());
  }

 private:
  const std::string text_;
};

/// The file itself cannot carry the lock, since another takes its place; nor should a lock file lie beside
/// it.
UniqueFd lock_directory(const fs::path& directory, const std::stop_token& stop) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw IoError::from_errno(fmt::format("opening {}", directory.string()), errno);
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      wait_for(kLockPoll, stop);
    } else if (errno != EINTR) {
      throw IoError::from_errno(fmt::format("locking {}", directory.string()), errno);
    }
  }
  return fd;
}

/// Adds all that `archive` holds, except directories; a link becomes the file that it leads to.
void carry_over(TarContent& members, const TarArchive& archive) {
  for (const auto& [name, member] : archive.index()) {
    if (member.kind == TarMember::Kind::kDirectory) continue;
    if (("/" + name + "/").find("/../") != std::string::npos) {
      throw DataError(fmt::format("{}: it has a member '{}', which is not written again", archive.name(),
                                  shown_name(name)));
    }
    members.insert_or_assign(name, archive.open(name));
  }
}

/// Absolute, and behind symbolic links: the file is replaced, not a link to it.
fs::path resolved(const fs::path& file) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(file, error);
  return error || path.empty() ? fs::absolute(file) : path;
}

}  // namespace

OciArchiveRepository::OciArchiveRepository(fs::path file, fs::path work_directory)
    : name_(fmt::format("oci-archive:{}", file.string())),
      file_(resolved(file)),
      work_directory_(std::move(work_directory)) {}

std::string OciArchiveRepository::name() const {
  return name_;
}

std::shared_ptr<const TarArchive> OciArchiveRepository::archive(const std::stop_token& stop) const {
  const std::lock_guard lock(opening_);
  std::error_code error;
  if (!fs::exists(file_, error)) return opened_;
  if (!opened_ || opened_->identity() != FileIdentity::of(file_)) {
    opened_ = std::make_shared<TarArchive>(file_, work_directory_, stop);
  }
  return opened_;
}

std::string OciArchiveRepository::read_index(const TarArchive& archive) const {
  if (!archive.index().contains(kMarkerName)) {
    const bool docker = archive.index().contains("manifest.json");
    throw DataError(fmt::format("{}: not an OCI image layout (it has no member oci-layout){}", name(),
                                docker ? "; it looks like a docker-archive: name it so" : ""));
  }
  index_document::check_marker(archive.read(kMarkerName, index_document::kMaxMarkerBytes), name());
  return archive.read(kIndexName, index_document::kMaxBytes);
}

/// A manifest that is only a part of an index need not be listed: then its media type is in itself.
LayoutEntry OciArchiveRepository::entry_for(const std::string& reference, const std::stop_token& stop) const {
  check_reference(reference);
  const auto found = archive(stop);
  if (!Digest::is_valid(reference)) {
    if (!found) throw IoError(fmt::format("{}: there is no such file, so no tag '{}'", name(), reference));
    return index_document::find_tag(read_index(*found), reference, name());
  }
  const Digest digest = Digest::parse(reference);
  if (found) {
    if (auto entry = index_document::find_digest(read_index(*found), digest, name())) return *entry;
  }
  const auto blob = find_blob(digest, stop);
  if (!blob) throw IoError(fmt::format("{}: there is no manifest {}", name(), digest.text()));
  return {digest, blob->size(), ""};
}

Manifest OciArchiveRepository::pull_manifest(const std::string& reference, std::stop_token stop) {
  throw_if_stopped(stop);
  const LayoutEntry entry = entry_for(reference, stop);
  std::string bytes = pull_small_blob(*this, {entry.digest, entry.size}, stop);
  std::string type = manifest_media_type(bytes, entry.media_type, fmt::format("{}: {}", name(), reference));
  return {std::move(type), std::move(bytes), entry.digest};
}

std::shared_ptr<const ByteSource> OciArchiveRepository::find_blob(const Digest& digest,
                                                                  const std::stop_token& stop) const {
  {
    const std::lock_guard lock(staging_);
    if (const auto at = staged_.find(digest); at != staged_.end()) return at->second;
  }
  const auto found = archive(stop);
  return found ? found->open(blob_name(digest)) : nullptr;
}

std::shared_ptr<const ByteSource> OciArchiveRepository::require_blob(const BlobId& blob,
                                                                     const std::stop_token& stop) const {
  auto source = find_blob(blob.digest, stop);
  if (!source) throw IoError(fmt::format("{}: there is no blob {}", name(), blob.digest.text()));
  check_blob_size(blob, source->size(), name());
  return source;
}

void OciArchiveRepository::pull_blob(const BlobId& blob, const BlobConsumer& consume, std::stop_token stop) {
  throw_if_stopped(stop);
  pull_from(*require_blob(blob, stop), blob, consume, stop, name());
}

std::unique_ptr<ByteSource> OciArchiveRepository::open_blob(const BlobId& blob) {
  return std::make_unique<SubSource>(require_blob(blob, {}), 0, blob.size);
}

bool OciArchiveRepository::has_blob(const BlobId& blob, std::stop_token stop) {
  throw_if_stopped(stop);
  const auto source = find_blob(blob.digest, stop);
  return source && source->size() == blob.size;
}

void OciArchiveRepository::refuse_compressed(const TarArchive& archive) const {
  if (!archive.is_compressed()) return;
  throw UsageError(fmt::format("{} is compressed and can only be read: unpack it to push to it", name()));
}

std::unique_ptr<Spool> OciArchiveRepository::new_spool() {
  std::call_once(prepared_, [this] {
    if (const auto found = archive({})) refuse_compressed(*found);
    std::error_code error;
    fs::create_directories(file_.parent_path(), error);
    if (error) throw IoError(fmt::format("creating {}: {}", file_.parent_path().string(), error.message()));
    remove_stale_temporaries(file_.parent_path());
  });
  return std::make_unique<Spool>(Spool::Options{.directory = work_directory_, .memory_limit = 0});
}

Digest OciArchiveRepository::push_spool(std::shared_ptr<Spool> spool, std::stop_token stop) {
  throw_if_stopped(stop);
  Digest digest = spool->digest(stop);
  const std::lock_guard lock(staging_);
  staged_.emplace(digest, std::move(spool));
  return digest;
}

Digest OciArchiveRepository::push_bytes(std::string_view content, std::stop_token stop) {
  Digest digest = Digest::of(content);
  if (has_blob({digest, content.size()}, stop)) return digest;
  std::shared_ptr<Spool> spool = new_spool();
  spool->append(std::as_bytes(std::span(content)));
  return push_spool(std::move(spool), stop);
}

/// What another process has put there since it was opened is kept, and so is what this one has promised to
/// have.
void OciArchiveRepository::write_archive(const std::optional<std::string>& tag, const LayoutEntry& entry,
                                         const std::stop_token& stop) {
  std::shared_ptr<const TarArchive> before;
  {
    const std::lock_guard lock(opening_);
    before = opened_;
  }
  const UniqueFd lock = lock_directory(file_.parent_path(), stop);
  const auto now = archive(stop);
  Blobs staged;
  {
    const std::lock_guard staging(staging_);
    staged = staged_;
  }
  TarContent members;
  for (const auto& held : {before, now}) {
    if (!held) continue;
    refuse_compressed(*held);
    carry_over(members, *held);
  }
  for (const auto& [digest, content] : staged) members.insert_or_assign(blob_name(digest), content);
  const std::string old_index = now ? read_index(*now) : index_document::empty();
  std::string index = tag ? index_document::with_tag(old_index, *tag, entry, name())
                          : index_document::with_entry(old_index, entry, name());
  members.insert_or_assign(kMarkerName, std::make_shared<TextSource>(std::string(index_document::kMarker)));
  members.insert_or_assign(kIndexName, std::make_shared<TextSource>(std::move(index)));
  Spool out({.directory = file_.parent_path(), .memory_limit = 0, .write_behind = true});
  write_tar(out, members, stop);
  out.replace(file_);
  archive({});  // opens the new one while it cannot be replaced again
  const std::lock_guard staging(staging_);
  for (const auto& blob : staged) staged_.erase(blob.first);
}

Digest OciArchiveRepository::push_manifest(const std::optional<std::string>& tag,
                                           const std::string& media_type, std::string_view bytes,
                                           std::stop_token stop) {
  if (tag && !is_valid_tag(*tag)) throw UsageError(fmt::format("'{}' is not a tag", tag->substr(0, 129)));
  const bool is_referrer = find_referral(bytes, media_type).has_value();
  Digest digest = push_bytes(bytes, stop);
  // A referrer is named by nothing that is pushed after it.
  if (tag || is_referrer) write_archive(tag, {digest, bytes.size(), media_type}, stop);
  return digest;
}

std::vector<Referrer> OciArchiveRepository::list_referrers(const Digest& subject, std::stop_token stop) {
  const auto found = archive(stop);
  if (!found) return {};
  return find_referrers(*this, index_document::entries(read_index(*found), name()), subject, stop);
}

}  // namespace obd::registry
