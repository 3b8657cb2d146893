#include "common/bounded_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace obd {
namespace {

TEST(BoundedQueue, GivesItemsInOrderAndNoneOnceClosedAndEmpty) {
  BoundedQueue<int> queue(10);
  queue.push(1, 1, {});
  queue.push(2, 1, {});
  queue.close();
  EXPECT_EQ(queue.pop({}), 1);
  EXPECT_EQ(queue.pop({}), 2);
  EXPECT_EQ(queue.pop({}), std::nullopt);
}

TEST(BoundedQueue, AnItemAboveTheCapacityPassesWhenNothingElseIsHeld) {
  BoundedQueue<int> queue(10);
  queue.push(1, 1000, {});
  EXPECT_EQ(queue.pop({}), 1);
}

TEST(BoundedQueue, AFullQueueHoldsTheProducerUntilSomethingIsTaken) {
  BoundedQueue<int> queue(10);
  queue.push(1, 10, {});
  std::atomic<bool> pushed = false;
  std::jthread producer([&] {
    queue.push(2, 1, {});
    pushed = true;
  });
  EXPECT_FALSE(pushed);
  EXPECT_EQ(queue.pop({}), 1);
  EXPECT_EQ(queue.pop({}), 2);
  producer.join();
  EXPECT_TRUE(pushed);
}

TEST(BoundedQueue, AProducerThatFoundItFullGoesOnWhenHalfIsTaken) {
  BoundedQueue<int> queue(4);
  for (int item = 0; item < 4; ++item) queue.push(item, 1, {});
  std::atomic<bool> pushed = false;
  std::jthread producer([&] {
    queue.push(4, 1, {});
    pushed = true;
  });
  EXPECT_EQ(queue.pop({}), 0);
  EXPECT_FALSE(pushed);
  EXPECT_EQ(queue.pop({}), 1);
  producer.join();
  EXPECT_TRUE(pushed);
}

TEST(BoundedQueue, AConsumerThatFoundItEmptySleepsUntilItIsWorthIt) {
  BoundedQueue<int> queue(10, 3);
  std::atomic<int> popped = 0;
  std::jthread consumer([&] {
    while (queue.pop({})) ++popped;
  });
  // Nothing but what was waited for or the end may wake it, whenever it went to sleep.
  for (int item = 0; item < 7; ++item) queue.push(item, 1, {});
  queue.close();
  consumer.join();
  EXPECT_EQ(popped, 7);
}

TEST(BoundedQueue, AConsumerThatWaitsForMoreThanFitsIsWokenByTheProducerThatCannotGoOn) {
  BoundedQueue<int> queue(10, 8);
  std::jthread producer([&] {
    for (int item = 0; item < 100; ++item) queue.push(item, 6, {});
    queue.close();
  });
  int popped = 0;
  while (queue.pop({})) ++popped;
  EXPECT_EQ(popped, 100);
}

TEST(BoundedQueue, AStopFreesProducerAndConsumer) {
  std::stop_source source;
  BoundedQueue<int> full(1);
  full.push(1, 1, {});
  BoundedQueue<int> empty(1);
  std::jthread producer([&] { EXPECT_THROW(full.push(2, 1, source.get_token()), Cancelled); });
  std::jthread consumer([&] { EXPECT_THROW(empty.pop(source.get_token()), Cancelled); });
  source.request_stop();
}

TEST(BoundedQueue, EveryItemArrivesOnceWithManyProducersAndConsumers) {
  constexpr int kItems = 2000;
  BoundedQueue<int> queue(16);
  std::atomic<int64_t> sum = 0;
  std::vector<std::jthread> consumers;
  for (int i = 0; i < 3; ++i) {
    consumers.emplace_back([&] {
      while (const auto item = queue.pop({})) sum += *item;
    });
  }
  {
    std::vector<std::jthread> producers;
    for (int i = 0; i < 3; ++i) {
      producers.emplace_back([&] {
        for (int item = 1; item <= kItems; ++item) queue.push(item, 3, {});
      });
    }
  }
  queue.close();
  consumers.clear();
  EXPECT_EQ(sum, 3LL * kItems * (kItems + 1) / 2);
}

}  // namespace
}  // namespace obd
