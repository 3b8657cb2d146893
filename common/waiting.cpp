#include "common/waiting.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>

#include "common/error.h"

namespace obd {

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

milliseconds backoff_delay(int failures, milliseconds first, milliseconds most) {
  const milliseconds doubled = first * (int64_t{1} << std::clamp(failures - 1, 0, 20));
  const milliseconds longest = std::min(doubled, std::max(first, most));
  return random_delay(longest / 2, longest);
}

}  // namespace obd
