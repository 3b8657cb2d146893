#include "registry/retry.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace obd::registry {
using std::chrono::milliseconds;

milliseconds Retries::delay_after(const NetworkError& error) const {
  const auto* status = dynamic_cast<const StatusError*>(&error);
  if (status && status->retry_after()) return std::min(*status->retry_after(), policy_.max_retry_after);
  return backoff_delay(failures_, policy_.first_delay, policy_.max_delay);
}

bool Retries::wait_after(const NetworkError& error) {
  if (!error.retryable() || ++failures_ >= policy_.tries) return false;
  const milliseconds delay = delay_after(error);
  spdlog::info("retry try={} wait_ms={} cause=\"{}\"", failures_ + 1, delay.count(), error.what());
  wait_for(delay, stop_);
  return true;
}

}  // namespace obd::registry
