#include "common/turns.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "common/error.h"

namespace obd {
namespace {

TEST(Turns, AreOneAtATimeForEachName) {
  Turns turns;
  std::atomic<int> holders{0};
  std::atomic<int> most{0};
  int count = 0;  // guarded by the turn
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        for (int round = 0; round < 200; ++round) {
          const auto turn = turns.take("a", true, {});
          most = std::max(most.load(), ++holders);
          ++count;
          --holders;
        }
      });
    }
  }
  EXPECT_EQ(most, 1);
  EXPECT_EQ(count, 1600);
}

TEST(Turns, AreRefusedAtOnceToWhoDoesNotWait) {
  Turns turns;
  auto turn = turns.take("a", false, {});
  ASSERT_TRUE(turn);
  EXPECT_FALSE(turns.take("a", false, {}));
  EXPECT_TRUE(turns.take("b", false, {})) << "another name";
  turn.reset();
  EXPECT_TRUE(turns.take("a", false, {}));
}

TEST(Turns, AreNotWaitedForOnceTheWorkIsStopped) {
  Turns turns;
  const auto turn = turns.take("a", true, {});
  std::stop_source stop;
  std::jthread waiter([&] { EXPECT_THROW(turns.take("a", true, stop.get_token()), Cancelled); });
  stop.request_stop();
}

}  // namespace
}  // namespace obd
