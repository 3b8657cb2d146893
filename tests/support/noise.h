#pragma once

#include <random>
#include <string>

namespace obd::test {

/// Bytes that do not compress, the same in every run; `seed` makes different ones.
inline std::string noise(size_t bytes, unsigned seed = 1) {
  std::minstd_rand random(seed);
  std::string result(bytes, '\0');
  for (char& c : result) c = static_cast<char>(random() >> 8);
  return result;
}

}  // namespace obd::test
