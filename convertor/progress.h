#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace obd::convertor {

/// How far one layer is. Written by its pipeline, read by whoever shows it.
struct LayerProgress {
  enum class State { kWaiting, kFetching, kApplying, kPublishing, kDone };

  std::string image;         // the platform, where there are several
  size_t number = 0;         // from 1
  std::string digest;        // of the source layer, shortened
  uint64_t total_bytes = 0;  // compressed
  std::atomic<State> state{State::kWaiting};
  std::atomic<bool> is_given_up{false};  // the image begins anew, with others of these
  std::atomic<uint64_t> fetched_bytes{0};
  std::atomic<uint64_t> applied_bytes{0};  // uncompressed
  std::atomic<uint64_t> stored_bytes{0};   // of the converted layer

  // CPU time of each stage when it is done, in nanoseconds. Compression is the worker pool's.
  std::atomic<uint64_t> fetch_cpu{0};
  std::atomic<uint64_t> inflate_cpu{0};
  std::atomic<uint64_t> hash_cpu{0};
  std::atomic<uint64_t> apply_cpu{0};
  std::atomic<uint64_t> publish_cpu{0};
};

/// All layers of a run.
///
/// Threads: any.
class ProgressBoard {
 public:
  /// The reference stays valid as long as the board.
  LayerProgress& add(std::string image, size_t number, std::string digest, uint64_t total_bytes);
  /// The layers so far, in the order in which they were added, without those that were given up.
  std::vector<const LayerProgress*> layers() const;

 private:
  mutable std::mutex mutex_;  // guards layers_
  std::deque<LayerProgress> layers_;
};

}  // namespace obd::convertor
