#include "common/stage_group.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <stdexcept>

#include "common/bounded_queue.h"
#include "common/error.h"

namespace obd {
namespace {

/// Waits until it is told to stop, as a stage does that waits for its neighbours.
void wait_for_stop(std::stop_token stop) {
  BoundedQueue<int> never(1);
  never.pop(std::move(stop));
}

TEST(StageGroup, JoinsStagesThatSucceed) {
  std::atomic<int> done = 0;
  StageGroup group({});
  group.start("one", [&](std::stop_token) { ++done; });
  group.start("a name that is longer than fifteen", [&](std::stop_token) { ++done; });
  group.join();
  EXPECT_EQ(done, 2);
}

TEST(StageGroup, TheFirstFailureStopsTheOthersAndComesOutOfJoin) {
  StageGroup group({});
  group.start("waits", wait_for_stop);
  group.start("fails", [](std::stop_token) { throw DataError("broken input"); });
  EXPECT_THROW(group.join(), DataError);
}

TEST(StageGroup, AFailureFromOutsideStopsAllStages) {
  StageGroup group({});
  group.start("waits", wait_for_stop);
  group.fail(std::make_exception_ptr(IoError("disk")));
  EXPECT_THROW(group.join(), IoError);
}

TEST(StageGroup, StoppingTheOuterTokenCancelsAll) {
  std::stop_source outer;
  StageGroup group(outer.get_token());
  group.start("waits", wait_for_stop);
  outer.request_stop();
  EXPECT_THROW(group.join(), Cancelled);
}

TEST(StageGroup, AFailureCountsMoreThanAStop) {
  std::stop_source outer;
  StageGroup group(outer.get_token());
  group.start("fails as it stops", [&](std::stop_token stop) {
    try {
      wait_for_stop(stop);
    } catch (const Cancelled&) {
      throw IoError("while cleaning up");
    }
  });
  outer.request_stop();
  EXPECT_THROW(group.join(), IoError);
}

TEST(StageGroup, DestroyedWithoutJoinItStopsItsStages) {
  StageGroup group({});
  group.start("waits", wait_for_stop);
}

TEST(StageGroup, AnOuterTokenThatIsStoppedAlreadyStopsStagesAtOnce) {
  std::stop_source outer;
  outer.request_stop();
  StageGroup group(outer.get_token());
  group.start("waits", wait_for_stop);
  EXPECT_THROW(group.join(), Cancelled);
}

}  // namespace
}  // namespace obd
