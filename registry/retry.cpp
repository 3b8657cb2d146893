#include "registry/retry.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

namespace obd::registry {
using std::chrono::milliseconds;

void wait_for(milliseconds delay, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, delay, [] { return false; });
  if (stop.stop_requested()) throw Cancelled();
}

Retries::Retries(RetryPolicy policy, std::stop_token stop)
    : policy_(policy), stop_(std::move(stop)), random_(std::random_device{}()) {}

milliseconds Retries::delay_after(const NetworkError& error) {
  const auto* status = dynamic_cast<const StatusError*>(&error);
  if (status && status->retry_after()) return std::min(*status->retry_after(), policy_.max_retry_after);
  const auto doubled = policy_.first_delay * (int64_t{1} << std::min(failures_ - 1, 20));
  const milliseconds longest = std::min<milliseconds>(doubled, std::max(policy_.max_delay, policy_.first_delay));
  return milliseconds(std::uniform_int_distribution(longest.count() / 2, longest.count())(random_));
}

bool Retries::wait_after(const NetworkError& error) {
  if (!error.retryable() || ++failures_ >= policy_.tries) return false;
  const milliseconds delay = delay_after(error);
  spdlog::info("retry try={} wait_ms={} cause=\"{}\"", failures_ + 1, delay.count(), error.what());
  wait_for(delay, stop_);
  return true;
}

}  // namespace obd::registry
