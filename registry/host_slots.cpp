#include "registry/host_slots.h"

#include <condition_variable>
#include <map>
#include <mutex>

#include "common/error.h"

namespace obd::registry {
namespace {

struct Slots {
  std::mutex mutex;  // guards `taken`
  std::condition_variable_any freed;
  std::map<std::string, size_t> taken;
};

Slots& slots() {
  static Slots instance;
  return instance;
}

}  // namespace

HostSlot::HostSlot(std::string host) : host_(std::move(host)) {
  const std::lock_guard lock(slots().mutex);
  ++slots().taken[host_];
}

HostSlot::HostSlot(std::string host, size_t limit, const std::stop_token& stop) : host_(std::move(host)) {
  std::unique_lock lock(slots().mutex);
  if (!slots().freed.wait(lock, stop, [&] { return slots().taken[host_] < limit; })) throw Cancelled();
  ++slots().taken[host_];
}

HostSlot::~HostSlot() {
  {
    const std::lock_guard lock(slots().mutex);
    const auto found = slots().taken.find(host_);
    if (--found->second == 0) slots().taken.erase(found);
  }
  slots().freed.notify_all();
}

}  // namespace obd::registry
