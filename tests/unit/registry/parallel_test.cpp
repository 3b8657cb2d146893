// Large blobs over several connections.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "registry/host_slots.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::Fault;
using obd::test::RecordedRequest;

constexpr size_t kBlobBytes = 3'000'001;
constexpr size_t kPieceBytes = 200'000;

/// Everything is slow, everything is large.
ClientOptions eager() {
  return {.parallel = {.min_bytes = 1,
                       .sample_bytes = 1,
                       .slow_bytes_per_second = 1e18,
                       .piece_bytes = kPieceBytes,
                       .streams = 4}};
}

class Parallel : public testing::Test {
 protected:
  Parallel() : fixture_({}, eager()), content_(noise(kBlobBytes)), id_(id_of(content_)) {
    registry().put_blob(id_.digest.text(), content_);
  }
  obd::test::FakeRegistry& registry() { return fixture_.registry; }
  Repository& repository() { return *fixture_.repository; }
  size_t ranges() {
    size_t count = 0;
    for (const RecordedRequest& request : registry().requests("GET", "/blobs/")) {
      count += request.header("range").empty() ? 0 : 1;
    }
    return count;
  }

  HttpFixture fixture_;
  const std::string content_;
  const BlobId id_;
};

TEST_F(Parallel, PiecesArriveInOrderWhateverTheirNumber) {
  EXPECT_EQ(pull_text(repository(), id_), content_);
  EXPECT_GE(ranges(), 10u);
}

TEST_F(Parallel, FastServerIsReadOverOneConnection) {
  ClientOptions options = eager();
  options.parallel.slow_bytes_per_second = 1;
  HttpFixture fixture({}, options);
  fixture.registry.put_blob(id_.digest.text(), content_);
  EXPECT_EQ(pull_text(*fixture.repository, id_), content_);
  EXPECT_EQ(fixture.registry.requests().size(), 1u);
}

TEST_F(Parallel, SlowConsumerIsNotTakenForASlowServer) {
  ClientOptions options = eager();
  options.parallel.slow_bytes_per_second = 10e6;  // twice what the consumer takes
  options.parallel.sample_bytes = kBlobBytes / 2;
  HttpFixture fixture({}, options);
  fixture.registry.put_blob(id_.digest.text(), content_);
  fixture.repository->pull_blob(
      id_, [](auto data) { std::this_thread::sleep_for(std::chrono::microseconds(data.size() / 5)); }, {});
  EXPECT_EQ(fixture.registry.requests().size(), 1u);
}

TEST_F(Parallel, SmallRestIsNotWorthIt) {
  ClientOptions options = eager();
  options.parallel.min_bytes = kBlobBytes + 1;
  HttpFixture fixture({}, options);
  fixture.registry.put_blob(id_.digest.text(), content_);
  EXPECT_EQ(pull_text(*fixture.repository, id_), content_);
  EXPECT_EQ(fixture.registry.requests().size(), 1u);
}

TEST_F(Parallel, ServerWithoutRangesIsReadOverOneConnection) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kNoRange}, 100);
  EXPECT_EQ(pull_text(repository(), id_), content_);
}

TEST_F(Parallel, ServerThatRefusesRangesIsReadOverOneConnection) {
  for (const int status : {416, 400, 403, 405, 501}) {
    HttpFixture fixture({.range_refusal = status}, eager());
    fixture.registry.put_blob(id_.digest.text(), content_);
    EXPECT_EQ(pull_text(*fixture.repository, id_), content_) << status;
  }
}

TEST_F(Parallel, BrokenTransferIsGoneOnWithWhereRangesAreRefused) {
  HttpFixture fixture({.range_refusal = 403});
  fixture.registry.put_blob(id_.digest.text(), content_);
  fixture.registry.fail_request(0, {.kind = Fault::Kind::kShortBody, .bytes = 90'000});
  fixture.registry.fail_request(2, {.kind = Fault::Kind::kShortBody, .bytes = 1'000'000});
  EXPECT_EQ(pull_text(*fixture.repository, id_), content_);
  EXPECT_EQ(fixture.registry.requests().size(), 4u) << "a Range is asked for once";
}

TEST_F(Parallel, BrokenPiecesAreFetchedAgain) {
  registry().inject("GET", "/blobs/", {.kind = Fault::Kind::kShortBody, .bytes = 90'000}, 6);
  EXPECT_EQ(pull_text(repository(), id_), content_);
}

TEST_F(Parallel, WrongBitInAPieceIsNoticed) {
  registry().fail_request(4, {.kind = Fault::Kind::kCorrupt});
  EXPECT_THROW(pull_text(repository(), id_), DataError);
}

TEST_F(Parallel, FailureOfThePieceIsTheFailureOfTheBlob) {
  for (size_t index = 3; index < 100; ++index) registry().fail_request(index, {.status = 503});
  EXPECT_THROW(pull_text(repository(), id_), NetworkError);
}

TEST_F(Parallel, FailureOfTheConsumerEndsIt) {
  size_t taken = 0;
  const auto consume = [&](std::span<const std::byte> data) {
    taken += data.size();
    if (taken > kBlobBytes / 2) throw IoError("full");
  };
  EXPECT_THROW(repository().pull_blob(id_, consume, {}), IoError);
}

TEST_F(Parallel, StopEndsIt) {
  registry().fail_request(5, {.kind = Fault::Kind::kStall, .bytes = 1000});
  std::stop_source source;
  std::jthread stopper([&] {
    while (registry().requests().size() < 7) std::this_thread::yield();
    source.request_stop();
  });
  EXPECT_THROW(pull_text(repository(), id_, source.get_token()), Cancelled);
}

TEST_F(Parallel, NoMoreIsFetchedThanMayWait) {
  std::atomic<size_t> delivered = 0;
  std::atomic<size_t> most = 0;
  registry().on_request([&](const RecordedRequest& request) {
    size_t first = 0;
    if (std::sscanf(request.header("range").c_str(), "bytes=%zu-", &first) != 1) return;
    const size_t seen = delivered;
    if (first > seen) most = std::max<size_t>(most, first - seen);
  });
  repository().pull_blob(id_, [&](auto data) { delivered += data.size(); }, {});
  EXPECT_LE(most, 4 * kPieceBytes);
}

TEST(HostSlot, WaitsForRoomThatTheFirstOfABlobDoesNotNeed) {
  const HostSlot one("host");
  const HostSlot two("host");
  std::atomic<bool> entered = false;
  std::stop_source source;
  std::jthread waiter([&] {
    EXPECT_THROW(HostSlot("host", 2, source.get_token()), Cancelled);
    const HostSlot elsewhere("another", 2, {});
    const HostSlot enough("host", 3, {});
    entered = true;
  });
  source.request_stop();
  waiter.join();
  EXPECT_TRUE(entered);
}

}  // namespace
}  // namespace obd::registry::test
