#include "registry/layout_repository.h"

#include <fmt/format.h>

#include "common/error.h"
#include "registry/local_blob.h"
#include "registry/manifest_form.h"
#include "registry/reference.h"
#include "registry/referrers.h"

namespace obd::registry {

namespace fs = std::filesystem;

LayoutRepository::LayoutRepository(fs::path directory)
    : directory_(std::move(directory)), index_(directory_) {}

std::string LayoutRepository::name() const {
  return fmt::format("oci:{}", directory_.string());
}

fs::path LayoutRepository::blob_path(const Digest& digest) const {
  return directory_ / "blobs" / "sha256" / digest.hex();
}

void LayoutRepository::prepare_for_writing() {
  std::call_once(prepared_, [this] {
    index_.create();
    remove_stale_temporaries(directory_);
    remove_stale_temporaries(directory_ / "blobs" / "sha256");
  });
}

/// A manifest that is only a part of an index need not be listed: then its media type is in itself.
LayoutEntry LayoutRepository::entry_for(const std::string& reference) const {
  check_reference(reference);
  if (!Digest::is_valid(reference)) return index_.find_tag(reference);
  const Digest digest = Digest::parse(reference);
  if (auto entry = index_.find_digest(digest)) return *entry;
  return {digest, find_blob(digest)->size(), ""};
}

Manifest LayoutRepository::pull_manifest(const std::string& reference, std::stop_token stop) {
  throw_if_stopped(stop);
  const LayoutEntry entry = entry_for(reference);
  std::string bytes = pull_small_blob(*this, {entry.digest, entry.size}, stop);
  std::string type = manifest_media_type(bytes, entry.media_type, fmt::format("{}: {}", name(), reference));
  return {std::move(type), std::move(bytes), entry.digest};
}

std::shared_ptr<const ByteSource> LayoutRepository::find_blob(const Digest& digest) const {
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = staged_.find(digest); at != staged_.end()) return at->second;
  }
  return std::make_shared<FileSource>(blob_path(digest));
}

std::shared_ptr<const ByteSource> LayoutRepository::find_blob(const BlobId& blob) const {
  auto source = find_blob(blob.digest);
  check_blob_size(blob, source->size(), name());
  return source;
}

void LayoutRepository::pull_blob(const BlobId& blob, const BlobConsumer& consume, std::stop_token stop) {
  throw_if_stopped(stop);
  pull_from(*find_blob(blob), blob, consume, stop, name());
}

std::unique_ptr<ByteSource> LayoutRepository::open_blob(const BlobId& blob) {
  auto source = find_blob(blob);
  const uint64_t size = source->size();
  return std::make_unique<SubSource>(std::move(source), 0, size);
}

bool LayoutRepository::has_blob(const BlobId& blob, std::stop_token stop) {
  throw_if_stopped(stop);
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = staged_.find(blob.digest); at != staged_.end())
      return at->second->size() == blob.size;
  }
  std::error_code error;
  const uint64_t size = fs::file_size(blob_path(blob.digest), error);
  return !error && size == blob.size;
}

std::unique_ptr<Spool> LayoutRepository::new_spool() {
  prepare_for_writing();
  return std::make_unique<Spool>(
      Spool::Options{.directory = directory_ / "blobs" / "sha256", .memory_limit = 0, .write_behind = true});
}

Digest LayoutRepository::push_spool(std::shared_ptr<Spool> spool, std::stop_token stop) {
  throw_if_stopped(stop);
  Digest digest = spool->digest(stop);
  spool->sync();
  const std::lock_guard lock(mutex_);
  staged_.emplace(digest, std::move(spool));
  return digest;
}

void LayoutRepository::keep_blob(const Digest& digest) {
  const std::lock_guard lock(mutex_);
  const auto at = staged_.find(digest);
  if (at == staged_.end()) return;
  at->second->publish_as(blob_path(digest));
  staged_.erase(at);
}

Digest LayoutRepository::push_bytes(std::string_view content, std::stop_token stop) {
  Digest digest = Digest::of(content);
  if (has_blob({digest, content.size()}, stop)) return digest;
  std::shared_ptr<Spool> spool = new_spool();
  spool->append(std::as_bytes(std::span(content)));
  return push_spool(std::move(spool), stop);
}

void LayoutRepository::publish_staged() {
  const std::lock_guard lock(mutex_);
  for (const auto& [digest, spool] : staged_) spool->publish_as(blob_path(digest));
  staged_.clear();
}

LayoutEntry LayoutRepository::publish(const std::string& media_type, std::string_view bytes,
                                      const std::stop_token& stop) {
  prepare_for_writing();
  Digest digest = push_bytes(bytes, stop);
  publish_staged();
  return {std::move(digest), bytes.size(), media_type};
}

Digest LayoutRepository::push_manifest(const std::optional<std::string>& tag, const std::string& media_type,
                                       std::string_view bytes, std::stop_token stop) {
  if (tag && !is_valid_tag(*tag)) throw UsageError(fmt::format("'{}' is not a tag", tag->substr(0, 129)));
  const bool is_referrer = find_referral(bytes, media_type).has_value();
  const LayoutEntry entry = publish(media_type, bytes, stop);
  if (tag) {
    index_.set_tag(*tag, entry);
  } else if (is_referrer) {  // nothing else in a layout would lead to it
    index_.add(entry);
  }
  return entry.digest;
}

bool LayoutRepository::replace_manifest(const std::string& tag, const std::optional<Manifest>& expected,
                                        const std::string& media_type, std::string_view bytes,
                                        std::stop_token stop) {
  if (!is_valid_tag(tag)) throw UsageError(fmt::format("'{}' is not a tag", tag.substr(0, 129)));
  const LayoutEntry entry = publish(media_type, bytes, stop);
  return index_.replace_tag(tag, expected ? std::optional(expected->digest) : std::nullopt, entry);
}

std::vector<Referrer> LayoutRepository::list_referrers(const Digest& subject, std::stop_token stop) {
  return find_referrers(*this, index_.entries(), subject, stop);
}

}  // namespace obd::registry
