#include "common/spool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>

#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

#include "common/error.h"
#include "common/unique_fd.h"
#include "tests/support/memory.h"
#include "tests/support/temporary_directory.h"

namespace obd {
namespace {

using test::Bytes;
using test::TemporaryDirectory;

Bytes pattern(size_t bytes) {
  Bytes out(bytes);
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>((i * 31 + i / 251) & 0xFF);
  return out;
}

size_t files_in(const std::filesystem::path& directory) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

class SpoolAtEveryLimit : public testing::TestWithParam<uint64_t> {};

TEST_P(SpoolAtEveryLimit, GivesBackWhatWasAppendedAndOverwritten) {
  const TemporaryDirectory directory;
  Bytes expected = pattern(3'000'001);
  Spool spool({.directory = directory.path(), .memory_limit = GetParam()});
  for (size_t at = 0; at < expected.size(); at += 777'777) {
    spool.append(std::span(expected).subspan(at, std::min<size_t>(777'777, expected.size() - at)));
  }
  const Bytes patch = test::to_bytes("corrected later");
  for (const size_t at : {size_t{0}, (size_t{1} << 20) - 5, expected.size() - patch.size()}) {
    spool.overwrite(at, patch);
    std::copy(patch.begin(), patch.end(), expected.begin() + static_cast<ptrdiff_t>(at));
  }
  EXPECT_EQ(test::read_all(spool), expected);
  EXPECT_EQ(spool.digest({}), Digest::of(expected));
  EXPECT_THROW(spool.read_at(expected.size() - 1,
                             patch.empty() ? std::span<std::byte>() : std::span(expected).first(2)),
               DataError);
  EXPECT_EQ(files_in(directory.path()), 0U) << "a spool has no name";
}

TEST(Spool, HashesPartByPart) {
  const TemporaryDirectory directory;
  const Bytes content = pattern((20 << 20) + 3);
  Spool spool({.directory = directory.path()});
  spool.append(content);
  EXPECT_EQ(spool.digest({}), Digest::of(content));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they need address space of their own
/// As on a kernel or a filesystem that cannot map it.
TEST(Spool, HashesWhatCannotBeMapped) {
  const TemporaryDirectory directory;
  const Bytes content = pattern((9 << 20) + 3);
  Spool spool({.directory = directory.path()});
  spool.append(content);
  const auto hash_in_little_space = [&] {
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit limit{pages * 4096 + (2 << 20), RLIM_INFINITY};
    const bool is_limited = ::setrlimit(RLIMIT_AS, &limit) == 0;
    std::_Exit(is_limited && spool.digest({}) == Digest::of(content) ? 0 : 1);
  };
  EXPECT_EXIT(hash_in_little_space(), testing::ExitedWithCode(0), "");
}
#endif

TEST_P(SpoolAtEveryLimit, PublishesUnderItsNameAndLeavesNothingElse) {
  const TemporaryDirectory directory;
  const Bytes content = pattern(1'500'000);
  {
    Spool spool({.directory = directory.path(), .memory_limit = GetParam(), .write_behind = true});
    spool.append(content);
    spool.publish_as(directory.path() / "blob");
  }
  EXPECT_EQ(files_in(directory.path()), 1U);
  EXPECT_EQ(test::read_all(FileSource(directory.path() / "blob")), content);
}

INSTANTIATE_TEST_SUITE_P(Limits, SpoolAtEveryLimit, testing::Values(0, 1'000'000, 100'000'000));

TEST(Spool, AnEmptyOneCanBePublished) {
  const TemporaryDirectory directory;
  Spool spool({.directory = directory.path() / "made" / "for it", .memory_limit = 10});
  spool.publish_as(directory.path() / "made" / "for it" / "empty");
  EXPECT_EQ(FileSource(directory.path() / "made" / "for it" / "empty").size(), 0U);
}

TEST(Spool, PublishingReplacesAFileOfAnotherSizeOnly) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "blob";
  test::write_file(path, "same size");
  Spool same({.directory = directory.path()});
  same.append(test::to_bytes("SAME SIZE"));
  same.publish_as(path);
  EXPECT_EQ(test::read_file(path), "same size");
  Spool longer({.directory = directory.path()});
  longer.append(test::to_bytes("cut short before"));
  longer.publish_as(path);
  EXPECT_EQ(test::read_file(path), "cut short before");
  EXPECT_EQ(files_in(directory.path()), 1U);
}

TEST(Spool, AStoppedDigestIsCancelled) {
  const TemporaryDirectory directory;
  Spool spool({.directory = directory.path()});
  spool.append(pattern(1000));
  std::stop_source source;
  source.request_stop();
  EXPECT_THROW(spool.digest(source.get_token()), Cancelled);
}

TEST(Spool, ADirectoryThatCannotBeMadeIsAnIoError) {
  const TemporaryDirectory directory;
  test::write_file(directory.path() / "file", "");
  EXPECT_THROW(Spool({.directory = directory.path() / "file" / "below"}), IoError);
}

TEST(WriteFileAtomically, ReplacesAFileAndLeavesNothingElse) {
  const TemporaryDirectory directory;
  write_file_atomically(directory.path() / "index.json", "one");
  write_file_atomically(directory.path() / "index.json", "two");
  EXPECT_EQ(test::read_file(directory.path() / "index.json"), "two");
  EXPECT_EQ(files_in(directory.path()), 1U);
  EXPECT_THROW(write_file_atomically(directory.path() / "missing" / "x", "y"), IoError);
}

TEST(CreateFile, TheFirstStaysAndNothingElse) {
  const TemporaryDirectory directory;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] { create_file(directory.path() / "marker", "one"); });
  }
  create_file(directory.path() / "marker", "two");
  EXPECT_EQ(test::read_file(directory.path() / "marker"), "one");
  EXPECT_EQ(files_in(directory.path()), 1U);
  EXPECT_THROW(create_file(directory.path() / "missing" / "x", "y"), IoError);
}

TEST(RemoveStaleTemporaries, TakesThoseOfTheDeadAndLeavesThoseOfTheLivingAndAllOthers) {
  const TemporaryDirectory directory;
  test::write_file(directory.path() / ".obd-tmp-1-0", "of a killed process");
  test::write_file(directory.path() / ".obd-tmp-1-1", "of a living process");
  test::write_file(directory.path() / "blob", "published");
  const UniqueFd living(::open((directory.path() / ".obd-tmp-1-1").c_str(), O_RDONLY));
  ASSERT_EQ(::flock(living.get(), LOCK_EX), 0);
  remove_stale_temporaries(directory.path());
  EXPECT_FALSE(std::filesystem::exists(directory.path() / ".obd-tmp-1-0"));
  EXPECT_TRUE(std::filesystem::exists(directory.path() / ".obd-tmp-1-1"));
  EXPECT_TRUE(std::filesystem::exists(directory.path() / "blob"));
  remove_stale_temporaries(directory.path() / "missing");  // nothing to do
}

}  // namespace
}  // namespace obd
