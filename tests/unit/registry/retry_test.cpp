#include "registry/retry.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(WithRetries, TriesAsOftenAsThePolicySays) {
  int calls = 0;
  EXPECT_THROW(with_retries(quick_retries(), {}, [&] { ++calls, throw NetworkError("x", 503, true); }),
               NetworkError);
  EXPECT_EQ(calls, quick_retries().tries);
}

TEST(WithRetries, GivesUpAtOnceWhatRetryingCannotMend) {
  int calls = 0;
  EXPECT_THROW(with_retries(quick_retries(), {}, [&] { ++calls, throw NetworkError("x", 404); }),
               NetworkError);
  EXPECT_THROW(with_retries(quick_retries(), {}, [&] { ++calls, throw DataError("x"); }), DataError);
  EXPECT_EQ(calls, 2);
}

TEST(Retries, ProgressStartsTheCountAnew) {
  Retries retries(quick_retries(), {});
  const NetworkError error("x", 0, true);
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(retries.wait_after(error));
    retries.made_progress();
  }
}

TEST(Retries, OnlyWhatWasNeverReachedIsProgress) {
  Retries retries(quick_retries(), {});
  const NetworkError error("x", 0, true);
  for (const uint64_t position : {1u, 5u, 6u}) {
    retries.reached(position);
    EXPECT_TRUE(retries.wait_after(error));
  }
  retries.reached(3);
  EXPECT_TRUE(retries.wait_after(error));
  retries.reached(6);
  EXPECT_FALSE(retries.wait_after(error));
}

TEST(Retries, StopEndsTheWait) {
  RetryPolicy patient;
  patient.first_delay = patient.max_delay = milliseconds(60'000);
  std::stop_source source;
  std::jthread stopper([&] { source.request_stop(); });
  Retries retries(patient, source.get_token());
  EXPECT_THROW(static_cast<void>(retries.wait_after(NetworkError("x", 0, true))), Cancelled);
}

milliseconds waited(RetryPolicy policy, milliseconds retry_after) {
  Retries retries(policy, {});
  const auto begin = steady_clock::now();
  EXPECT_TRUE(retries.wait_after(StatusError("x", 429, true, retry_after)));
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin);
}

TEST(Retries, RetryAfterIsTheLeastThatIsWaited) {
  EXPECT_GE(waited(quick_retries(), milliseconds(50)), milliseconds(50));
  RetryPolicy policy = quick_retries();
  policy.first_delay = policy.max_delay = milliseconds(80);
  EXPECT_GE(waited(policy, milliseconds(0)), milliseconds(40)) << "the usual wait";
  EXPECT_GE(waited(policy, milliseconds(10)), milliseconds(40));
}

TEST(Retries, LongerThanItsCapIsNotWaited) {
  Retries retries(quick_retries(), {});
  EXPECT_FALSE(retries.wait_after(StatusError("x", 429, true, milliseconds(51))));
}

}  // namespace
}  // namespace obd::registry::test
