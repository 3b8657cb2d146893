#pragma once

// For .cpp files alone: public headers stay free of third-party ones.

#include <fmt/core.h>

#include <string_view>
#include <utility>

/// The process's log, one line for each call. Behind functions of our own because spdlog's are templates that
/// cost four seconds of compilation in each file that uses one.
///
/// Threads: any.
namespace obd::log {

enum class Level { kDebug, kInfo, kWarning };

/// Whether lines of this level are written.
bool is_on(Level level);
void write(Level level, std::string_view line);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (is_on(Level::kDebug)) write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (is_on(Level::kInfo)) write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  if (is_on(Level::kWarning)) write(Level::kWarning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace obd::log
