#pragma once

#include <cstddef>
#include <stop_token>
#include <string>

namespace obd::registry {

/// One of the transfers that this process has with a host at a time. What a blob needs at least goes at once
/// and is only counted: it may be held up by its consumer, and a limit on it could deadlock a pipeline. What
/// only makes it faster waits until there is room, and must not be held up by anything but the host.
class HostSlot {
 public:
  /// Goes at once.
  explicit HostSlot(std::string host);
  /// Waits until fewer than `limit` transfers with the host are on their way; throws Cancelled.
  HostSlot(std::string host, size_t limit, const std::stop_token& stop);
  ~HostSlot();
  HostSlot(const HostSlot&) = delete;
  HostSlot& operator=(const HostSlot&) = delete;

 private:
  const std::string host_;
};

}  // namespace obd::registry
