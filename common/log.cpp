#include "common/log.h"

#include <spdlog/spdlog.h>

namespace obd::log {
namespace {

spdlog::level::level_enum level_of(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      break;
  }
  return spdlog::level::warn;
}

}  // namespace

bool is_on(Level level) {
  return spdlog::should_log(level_of(level));
}

void write(Level level, std::string_view line) {
  spdlog::default_logger_raw()->log(level_of(level), line);
}

}  // namespace obd::log
