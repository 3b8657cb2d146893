#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace obd::test {

/// The choices of one test: the same again with --gtest_random_seed=SEED, where SEED is what trace() says.
class RandomChoice {
 public:
  RandomChoice()
      : seed_(static_cast<unsigned>(testing::UnitTest::GetInstance()->random_seed())), random_(seed_) {}

  /// For SCOPED_TRACE.
  std::string trace() const { return "seed " + std::to_string(seed_); }
  /// One of 0 to `bound` - 1.
  size_t below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random_); }

 private:
  const unsigned seed_;
  std::mt19937 random_;
};

}  // namespace obd::test
