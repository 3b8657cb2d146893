#include "common/turns.h"

#include <utility>

#include "common/error.h"

namespace obd {

Turns::Turn::Turn(Turns& turns, std::string name) : turns_(turns), name_(std::move(name)) {}

Turns::Turn::~Turn() {
  {
    const std::lock_guard lock(turns_.mutex_);
    turns_.taken_.erase(name_);
  }
  turns_.ended_.notify_all();
}

std::unique_ptr<Turns::Turn> Turns::take(const std::string& name, bool wait, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  if (!wait && taken_.contains(name)) return nullptr;
  if (!ended_.wait(lock, stop, [&] { return !taken_.contains(name); })) throw Cancelled();
  taken_.insert(name);
  return std::make_unique<Turn>(*this, name);
}

}  // namespace obd
