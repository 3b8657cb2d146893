#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "blockfs/lsmt_writer.h"
#include "blockfs/zfile_writer.h"
#include "tests/support/memory.h"

namespace obd::blockfs {

inline constexpr const char* kUuidA = "11111111-2222-3333-4444-555555555555";
inline constexpr const char* kUuidB = "66666666-7777-8888-9999-aaaaaaaaaaaa";

/// Half runs of one byte, half noise: compresses to about a half.
inline test::Bytes mixed_bytes(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  test::Bytes out(count);
  for (size_t at = 0; at < count;) {
    const size_t run = std::min<size_t>(count - at, 1 + random() % 6000);
    const bool noise = random() % 2 == 0;
    const auto fill = static_cast<std::byte>(random());
    for (size_t end = at + run; at < end; ++at) out[at] = noise ? static_cast<std::byte>(random()) : fill;
  }
  return out;
}

/// A disk that is written through an LsmtWriter and, at the same time, to a flat array.
class ModelledLayer {
 public:
  /// `below`: the disk's content before this layer.
  ModelledLayer(test::Bytes below, std::string uuid, std::string parent)
      : disk_(std::move(below)),
        writer_(
            [this](std::span<const std::byte> bytes) {
              file_.insert(file_.end(), bytes.begin(), bytes.end());
            },
            disk_.size(), std::move(uuid), std::move(parent)) {}

  void write(uint64_t sector, const test::Bytes& data) {
    writer_.write(sector, data);
    std::copy(data.begin(), data.end(), disk_.begin() + static_cast<ptrdiff_t>(sector * kSectorBytes));
  }
  void write_zeroes(uint64_t sector, uint64_t sectors) {
    writer_.write_zeroes(sector, sectors);
    std::fill_n(disk_.begin() + static_cast<ptrdiff_t>(sector * kSectorBytes), sectors * kSectorBytes,
                std::byte{0});
  }
  /// `count` writes and zeroings at random places.
  void scribble(std::mt19937_64& random, int count) {
    const uint64_t sectors = disk_.size() / kSectorBytes;
    for (int i = 0; i < count; ++i) {
      const uint64_t at = random() % sectors;
      const uint64_t length = 1 + random() % std::min<uint64_t>(sectors - at, 64);
      if (random() % 4 == 0) {
        write_zeroes(at, length);
      } else {
        write(at, mixed_bytes(length * kSectorBytes, random()));
      }
    }
  }
  std::vector<LsmtEntry> finish(const std::string& user_tag = "") {
    auto index = writer_.finish_index();
    writer_.finish(user_tag);
    return index;
  }

  const test::Bytes& disk() const { return disk_; }
  const test::Bytes& file() const { return file_; }

 private:
  test::Bytes disk_;
  test::Bytes file_;
  LsmtWriter writer_;
};

inline test::Bytes compress(const test::Bytes& content, const ZFileOptions& options, size_t threads = 1) {
  WorkerPool pool(threads);
  test::MemorySink sink;
  ZFileWriter writer(sink, options, pool, {});
  writer.append(content);
  writer.finish();
  return sink.bytes();
}

}  // namespace obd::blockfs
