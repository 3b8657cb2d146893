#include "dedupdb/waiting.h"
#include "common/log.h"

namespace obd::dedupdb {

bool Retries::wait_after(const TransientDbError& error) {
  if (++failures_ >= policy_.tries) return false;
  const auto delay = backoff_delay(failures_, policy_.first_delay, policy_.max_delay);
  log::info("database retry try={} wait_ms={} cause=\"{}\"", failures_ + 1, delay.count(), error.what());
  wait_for(delay, stop_);
  return true;
}

}  // namespace obd::dedupdb
