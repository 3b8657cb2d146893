#include "registry/blob_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <vector>

#include "common/error.h"
#include "common/log.h"
#include "common/stage_group.h"
#include "registry/host_slots.h"
#include "registry/range.h"

namespace obd::registry {
namespace {

using Clock = std::chrono::steady_clock;
using Piece = std::vector<std::byte>;

/// How fast bytes come, the time that their consumer takes left out.
class Speedometer {
 public:
  explicit Speedometer(const ParallelOptions& options) : options_(options) {}

  void arrived(size_t bytes) {
    waited_ += Clock::now() - since_;
    bytes_ += bytes;
  }
  void consumed() { since_ = Clock::now(); }
  bool is_slow() const {
    return bytes_ >= options_.sample_bytes &&
           static_cast<double>(bytes_) <
               std::chrono::duration<double>(waited_).count() * options_.slow_bytes_per_second;
  }

 private:
  const ParallelOptions& options_;
  Clock::time_point since_ = Clock::now();
  Clock::duration waited_{};
  uint64_t bytes_ = 0;
};

/// The bytes of a blob from `begin` on, in pieces that several threads fetch and one delivers.
class ParallelReader {
 public:
  ParallelReader(RegistryClient& client, const BlobId& blob, uint64_t begin)
      : client_(client), options_(client.parallel_options()), blob_(blob), begin_(begin) {}

  /// Up to which byte it came: not to the end if the server does not send parts.
  uint64_t run(const BlobConsumer& consume, const std::stop_token& stop);

 private:
  uint64_t offset_of(size_t piece) const {
    return std::min(blob_.size, begin_ + piece * options_.piece_bytes);
  }
  bool is_last(size_t piece) const { return offset_of(piece) == blob_.size; }

  void fetch_all(bool is_first, const std::stop_token& stop);
  /// The next piece to fetch, once it is near enough to what is delivered; none at the end.
  std::optional<size_t> take_turn(const std::stop_token& stop);
  Piece fetch(size_t piece, const std::stop_token& stop);
  void give_up();

  RegistryClient& client_;
  const ParallelOptions& options_;
  const BlobId blob_;
  const uint64_t begin_;

  std::mutex mutex_;  // guards all below
  std::condition_variable_any changed_;
  std::map<size_t, Piece> ready_;
  size_t next_ = 0;       // to be fetched
  size_t delivered_ = 0;  // all before it are
  bool given_up_ = false;
};

uint64_t ParallelReader::run(const BlobConsumer& consume, const std::stop_token& stop) {
  StageGroup group(stop);
  for (size_t i = 0; i < options_.streams; ++i) {
    group.start("fetch", [this, i](std::stop_token token) { fetch_all(i == 0, token); });
  }
  const std::stop_token token = group.token();
  std::unique_lock lock(mutex_);
  while (!is_last(delivered_)) {
    const bool awake = changed_.wait(lock, token, [&] { return ready_.contains(delivered_) || given_up_; });
    if (!awake || !ready_.contains(delivered_)) break;
    const Piece piece = std::move(ready_.extract(delivered_).mapped());
    lock.unlock();
    consume(piece);
    lock.lock();
    ++delivered_;
    changed_.notify_all();
  }
  const uint64_t position = offset_of(delivered_);
  lock.unlock();
  group.join();
  return position;
}

void ParallelReader::fetch_all(bool is_first, const std::stop_token& stop) {
  const std::string host = client_.name().authority;
  try {
    while (const auto piece = take_turn(stop)) {
      std::optional<HostSlot> slot;
      if (is_first) {
        slot.emplace(host);
      } else {
        slot.emplace(host, options_.transfers_per_host, stop);
      }
      Piece bytes = fetch(*piece, stop);
      const std::lock_guard lock(mutex_);
      ready_.emplace(*piece, std::move(bytes));
      changed_.notify_all();
    }
  } catch (const RangesUnsupported& error) {
    log::debug("blob={} on one connection again cause=\"{}\"", blob_.digest.brief(), error.what());
    give_up();
  } catch (const NetworkError& error) {
    if (error.retryable() || error.http_status() == 0) throw;
    log::debug("blob={} on one connection again cause=\"{}\"", blob_.digest.brief(), error.what());
    give_up();
  }
}

std::optional<size_t> ParallelReader::take_turn(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  const auto may_go = [&] { return given_up_ || is_last(next_) || next_ < delivered_ + options_.streams; };
  if (!changed_.wait(lock, stop, may_go)) throw Cancelled();
  if (given_up_ || is_last(next_)) return std::nullopt;
  return next_++;
}

Piece ParallelReader::fetch(size_t piece, const std::stop_token& stop) {
  Piece bytes;
  bytes.reserve(offset_of(piece + 1) - offset_of(piece));
  RangeReader reader(
      client_, blob_, offset_of(piece), offset_of(piece + 1),
      [&](std::span<const std::byte> data) { bytes.insert(bytes.end(), data.begin(), data.end()); },
      {.partial_only = true});
  reader.run(stop);
  return bytes;
}

void ParallelReader::give_up() {
  const std::lock_guard lock(mutex_);
  given_up_ = true;
  changed_.notify_all();
}

/// Returns where it left off: at the end, or where going on in parallel is worth it.
uint64_t read_while_fast(RegistryClient& client, const BlobId& blob, const BlobConsumer& consume,
                         const std::stop_token& stop) {
  const ParallelOptions& options = client.parallel_options();
  Speedometer speed(options);
  uint64_t position = 0;
  RangeReader reader(client, blob, 0, blob.size,
                     [&](std::span<const std::byte> data) {
                       speed.arrived(data.size());
                       consume(data);
                       position += data.size();
                       speed.consumed();
                     },
                     {.leave = [&] { return blob.size - position >= options.min_bytes && speed.is_slow(); }});
  reader.run(stop);
  return position;
}

}  // namespace

void read_blob(RegistryClient& client, const BlobId& blob, const BlobConsumer& consume,
               const std::stop_token& stop) {
  std::optional<HostSlot> slot(std::in_place, client.name().authority);
  uint64_t position = read_while_fast(client, blob, consume, stop);
  if (position == blob.size) return;
  log::debug("blob={} in parallel from byte {}", blob.digest.brief(), position);
  slot.reset();
  position = ParallelReader(client, blob, position).run(consume, stop);
  if (position == blob.size) return;
  slot.emplace(client.name().authority);
  RangeReader(client, blob, position, blob.size, consume).run(stop);
}

}  // namespace obd::registry
