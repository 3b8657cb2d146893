#include "registry/retry.h"
#include "common/log.h"

#include <algorithm>

namespace obd::registry {
using std::chrono::milliseconds;

namespace {

milliseconds asked_by(const NetworkError& error) {
  const auto* status = dynamic_cast<const StatusError*>(&error);
  return status ? status->retry_after().value_or(milliseconds(0)) : milliseconds(0);
}

}  // namespace

void Retries::reached(uint64_t position) {
  if (position <= furthest_) return;
  furthest_ = position;
  made_progress();
}

bool Retries::wait_after(const NetworkError& error) {
  if (!error.retryable() || ++failures_ >= policy_.tries) return false;
  const milliseconds asked = asked_by(error);
  if (asked > policy_.max_retry_after) return false;
  milliseconds delay = backoff_delay(failures_, policy_.first_delay, policy_.max_delay);
  if (asked > delay) delay = asked + random_delay(milliseconds(0), asked / 4);  // not all at the same time
  log::info("retry try={} wait_ms={} cause=\"{}\"", failures_ + 1, delay.count(), error.what());
  wait_for(delay, stop_);
  return true;
}

}  // namespace obd::registry
