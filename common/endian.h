#pragma once

#include <cstddef>
#include <cstdint>

namespace obd {

/// Little-endian loads and stores at any alignment. The compiler folds the loops into single moves.
template <class T>
T load_le(const std::byte* from) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(from[i]) << (8 * i)));
  }
  return value;
}

template <class T>
void store_le(std::byte* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<std::byte>(value >> (8 * i));
}

}  // namespace obd
