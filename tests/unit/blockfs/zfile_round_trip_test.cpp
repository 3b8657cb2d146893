#include <gtest/gtest.h>

#include "blockfs/zfile_reader.h"
#include "blockfs/zfile_writer.h"
#include "tests/unit/blockfs/blob_builder.h"

namespace obd::blockfs {
namespace {

using test::Bytes;

class ZFileRoundTrip : public testing::TestWithParam<std::tuple<Algorithm, uint32_t>> {
 protected:
  ZFileOptions options() const {
    return {.algorithm = std::get<0>(GetParam()), .block_bytes = std::get<1>(GetParam())};
  }
};

TEST_P(ZFileRoundTrip, ReadsBackContentOfEveryLength) {
  const size_t block = options().block_bytes;
  for (const size_t length : {size_t{0}, size_t{1}, block - 1, block, block + 1, 3 * block + 17,
                              size_t{1} << 18, (size_t{1} << 18) + 1, size_t{1'000'003}}) {
    const Bytes content = mixed_bytes(length, length);
    const ZFileReader reader(test::source_of(compress(content, options())));
    ASSERT_EQ(reader.size(), length);
    EXPECT_EQ(test::read_all(reader), content) << length;
  }
}

TEST_P(ZFileRoundTrip, ReadsAnyRange) {
  const Bytes content = mixed_bytes(300'000, 5);
  const ZFileReader reader(test::source_of(compress(content, options())));
  std::mt19937_64 random(20240607);
  for (int i = 0; i < 300; ++i) {
    const size_t at = random() % content.size();
    Bytes part(random() % std::min<size_t>(content.size() - at, 100'000) + 1);
    reader.read_at(at, part);
    ASSERT_TRUE(std::equal(part.begin(), part.end(), content.begin() + static_cast<ptrdiff_t>(at)))
        << at << " " << part.size();
  }
  Bytes byte(1);
  EXPECT_THROW(reader.read_at(content.size(), byte), DataError);
}

TEST_P(ZFileRoundTrip, BytesDependNeitherOnThreadsNorOnTheSizeOfAppends) {
  const Bytes content = mixed_bytes(3'000'001, 9);
  const Bytes one = compress(content, options(), 1);
  EXPECT_EQ(compress(content, options(), 4), one);
  WorkerPool pool(3);
  test::MemorySink sink;
  ZFileWriter writer(sink, options(), pool, {});
  std::mt19937_64 random(3);
  for (std::span<const std::byte> rest(content); !rest.empty();) {
    const auto piece = rest.first(std::min<size_t>(rest.size(), random() % 70'000));
    writer.append(piece);
    rest = rest.subspan(piece.size());
  }
  EXPECT_EQ(writer.size(), content.size());
  writer.finish();
  EXPECT_EQ(sink.bytes(), one);
}

TEST_P(ZFileRoundTrip, BeginsWhereTheSinkStands) {
  const Bytes content = mixed_bytes(100'000, 11);
  WorkerPool pool(2);
  test::MemorySink sink;
  sink.append(test::to_bytes("a wrapper's header"));
  ZFileWriter writer(sink, options(), pool, {});
  writer.append(content);
  writer.finish();
  EXPECT_EQ(Bytes(sink.bytes().begin() + 18, sink.bytes().end()), compress(content, options()));
}

INSTANTIATE_TEST_SUITE_P(Forms, ZFileRoundTrip,
                         testing::Combine(testing::Values(Algorithm::kLz4, Algorithm::kZstd),
                                          testing::Values(4096U, 8192U, 16384U, 32768U)));

TEST(ZFileWriter, ASinkThatFailsFailsTheWriterWithItsOwnError) {
  const Bytes content = mixed_bytes(4'000'000, 1);
  const uint64_t whole = compress(content, {}).size();
  for (const uint64_t fail_at : {uint64_t{600}, whole / 3, whole - 5000, whole - 1}) {
    WorkerPool pool(3);
    test::MemorySink sink(fail_at);
    ZFileWriter writer(sink, {}, pool, {});
    EXPECT_THROW(
        {
          writer.append(content);
          writer.finish();
        },
        IoError)
        << fail_at;
  }
}

TEST(ZFileWriter, DestroyedHalfwayItLeavesNoWorkBehind) {
  WorkerPool pool(2);
  for (int i = 0; i < 20; ++i) {
    test::MemorySink sink;
    ZFileWriter writer(sink, {}, pool, {});
    writer.append(mixed_bytes(1'000'000, static_cast<uint64_t>(i)));
  }
}

TEST(ZFileWriter, AStopCancelsIt) {
  WorkerPool pool(2);
  test::MemorySink sink;
  std::stop_source source;
  ZFileWriter writer(sink, {}, pool, source.get_token());
  writer.append(mixed_bytes(100'000, 1));
  source.request_stop();
  EXPECT_THROW(
      {
        writer.append(mixed_bytes(8'000'000, 2));
        writer.finish();
      },
      Cancelled);
}

TEST(ZFileWriter, WritersOnOnePoolDoNotDisturbOneAnother) {
  WorkerPool pool(3);
  const Bytes contents[] = {mixed_bytes(1'500'000, 1), mixed_bytes(1'500'000, 2), mixed_bytes(1'500'000, 3)};
  test::MemorySink sinks[3];
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        ZFileWriter writer(sinks[i], {}, pool, {});
        writer.append(contents[i]);
        writer.finish();
      });
    }
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(sinks[i].bytes(), compress(contents[i], {}));
}

}  // namespace
}  // namespace obd::blockfs
