#include "common/error.h"

#include <fmt/format.h>

#include <stdexcept>

namespace obd {

void Error::add_context(std::string_view context) {
  message_ = fmt::format("{}: {}", context, message_);
}

IoError IoError::from_errno(std::string_view what, int error_number) {
  return IoError(fmt::format("{}: {}", what, std::generic_category().message(error_number)));
}

void check_failed(const char* expression, const char* file, int line) {
  throw std::logic_error(fmt::format("internal error: {} does not hold at {}:{}", expression, file, line));
}

}  // namespace obd
