#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>

#include "common/stop_condition.h"

namespace obd {

/// Turns of this process's threads at things that have a name: one holder for each name at a time. Not
/// recursive, not fair.
///
/// Threads: any.
class Turns {
 public:
  /// Destruction ends it, in any thread.
  class Turn {
   public:
    Turn(Turns& turns, std::string name);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Turns& turns_;
    const std::string name_;
  };

  /// Waits for the end of another's turn; null, at once, where there is one and `wait` is false. Throws
  /// Cancelled when the stop token fires. The turn must not outlive this.
  std::unique_ptr<Turn> take(const std::string& name, bool wait, const std::stop_token& stop);

 private:
  std::mutex mutex_;  // guards taken_
  StopCondition ended_;
  std::set<std::string> taken_;
};

}  // namespace obd
