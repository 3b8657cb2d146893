#include "dedupdb/waiting.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>

namespace obd::dedupdb {

using std::chrono::milliseconds;

void wait_for(milliseconds delay, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, delay, [] { return false; });
  if (stop.stop_requested()) throw Cancelled();
}

milliseconds random_delay(milliseconds least, milliseconds most) {
  thread_local std::minstd_rand random(std::random_device{}());
  return milliseconds(std::uniform_int_distribution(least.count(), most.count())(random));
}

bool Retries::wait_after(const TransientDbError& error) {
  if (++failures_ >= policy_.tries) return false;
  const milliseconds doubled = policy_.first_delay * (int64_t{1} << std::min(failures_ - 1, 20));
  const milliseconds longest = std::min(doubled, policy_.max_delay);
  const milliseconds delay = random_delay(longest / 2, longest);
  spdlog::info("database retry try={} wait_ms={} cause=\"{}\"", failures_ + 1, delay.count(), error.what());
  wait_for(delay, stop_);
  return true;
}

}  // namespace obd::dedupdb
