#include <cstddef>
#include <cstdint>

#include "blockfs/layer_decompressor.h"
#include "blockfs/layer_tar.h"
#include "common/error.h"
#include "tests/support/streams.h"
#include "tests/support/tar_builder.h"

namespace {

using obd::test::Bytes;

/// Counts what is made; a bomb costs no memory.
class CountingSink final : public obd::blockfs::ChunkSink {
 public:
  std::span<std::byte> space() override { return window_; }
  void advance(size_t bytes) override {
    made_ += bytes;
    if (made_ > kEnough) throw obd::DataError("enough");
  }

 private:
  static constexpr uint64_t kEnough = 16 << 20;
  Bytes window_ = Bytes(4096);
  uint64_t made_ = 0;
};

void read_tar(const Bytes& archive, size_t piece_bytes) {
  obd::test::PieceStream stream(archive, piece_bytes);
  obd::blockfs::LayerTar tar("fuzz", stream);
  try {
    bool read_it = false;
    while (tar.next() != nullptr) {
      read_it = !read_it;  // content that nobody reads is skipped: another path
      while (read_it && tar.next_data()) {
      }
    }
    tar.drain();
    OBD_CHECK(tar.position() == archive.size());
  } catch (const obd::blockfs::TarError&) {
  }
}

void decompress(const Bytes& stream, size_t piece_bytes) {
  try {
    CountingSink sink;
    obd::blockfs::LayerDecompressor decompressor("fuzz", sink);
    obd::test::PieceStream pieces(stream, piece_bytes);
    for (auto piece = pieces.next(); !piece.empty(); piece = pieces.next()) decompressor.feed(piece);
    decompressor.finish();
  } catch (const obd::DataError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const Bytes input(bytes, bytes + size);
  for (const size_t piece : {SIZE_MAX, size_t{7}}) decompress(input, piece);
  Bytes archive = input;
  obd::test::fix_checksums(archive);
  for (const size_t piece : {SIZE_MAX, size_t{100}}) read_tar(archive, piece);
  return 0;
}
