#include "registry/local_blob.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"
#include "registry/referrers.h"

namespace obd::registry {
namespace {

constexpr size_t kPieceBytes = 256 << 10;  // stays in the second-level cache between hash and consumer

}  // namespace

void throw_if_stopped(const std::stop_token& stop) {
  if (stop.stop_requested()) throw Cancelled();
}

std::string read_text(const ByteSource& source, uint64_t max_bytes) {
  if (source.size() > max_bytes) {
    throw DataError(
        fmt::format("{}: {} bytes, more than the {} that are read", source.name(), source.size(), max_bytes));
  }
  std::string text(source.size(), '\0');
  source.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void check_blob_size(const BlobId& blob, uint64_t found, const std::string& where) {
  if (found == blob.size) return;
  throw DataError(
      fmt::format("{}: blob {} has {} bytes, not {}", where, blob.digest.text(), found, blob.size));
}

void pull_from(const ByteSource& source, const BlobId& blob, const BlobConsumer& consume,
               const std::stop_token& stop, const std::string& where) {
  Sha256 hash;
  std::vector<std::byte> buffer(std::min<uint64_t>(kPieceBytes, blob.size));
  for (uint64_t offset = 0; offset < blob.size;) {
    throw_if_stopped(stop);
    const std::span<std::byte> piece(buffer.data(), std::min<uint64_t>(buffer.size(), blob.size - offset));
    source.read_at(offset, piece);
    hash.update(piece);
    consume(piece);
    offset += piece.size();
  }
  const Digest found = hash.finish();
  if (found == blob.digest) return;
  throw DataError(
      fmt::format("{}: the content of {} has the digest {}", where, blob.digest.text(), found.text()));
}

std::vector<Referrer> find_referrers(Repository& repository, const std::vector<LayoutEntry>& entries,
                                     const Digest& subject, const std::stop_token& stop) {
  std::vector<Referrer> referrers;
  for (const LayoutEntry& entry : entries) {
    if (entry.size > kMaxManifestBytes) continue;  // nothing that we would read
    const std::string bytes = pull_small_blob(repository, {entry.digest, entry.size}, stop);
    auto referral = find_referral(bytes, entry.media_type);
    if (referral && referral->subject == subject) referrers.push_back(std::move(referral->referrer));
  }
  return referrers;
}

}  // namespace obd::registry
