#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "blockfs/crc32c.h"
#include "blockfs/zfile_reader.h"
#include "common/endian.h"
#include "common/error.h"
#include "tests/support/memory.h"

namespace {

using obd::blockfs::ZFileHeader;

/// Gives a header the digest that it needs: no fuzzer guesses a CRC, and what stands behind it would never
/// run.
void seal(obd::test::Bytes& file, size_t at) {
  if (file.size() < at + ZFileHeader::kBytes) return;
  if ((obd::load_le<uint64_t>(&file[at + 32]) & ZFileHeader::kFlagDigest) == 0) return;
  obd::store_le<uint32_t>(&file[at + 28], 0);
  const std::span header(&file[at], ZFileHeader::kBytes);
  obd::store_le<uint32_t>(&file[at + 28], obd::blockfs::crc32c_raw(0, header));
}

/// Reads pieces of odd lengths in order; a claimed size costs nothing until a block is read.
void read_all(const obd::ByteSource& source) {
  obd::test::Bytes piece(70'001);
  for (uint64_t offset = 0; offset < source.size(); offset += piece.size()) {
    source.read_at(offset, std::span(piece).first(std::min<uint64_t>(piece.size(), source.size() - offset)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  obd::test::Bytes file(bytes, bytes + size);
  seal(file, 0);
  if (size >= ZFileHeader::kBytes) seal(file, size - ZFileHeader::kBytes);
  try {
    read_all(obd::blockfs::ZFileReader(obd::test::source_of(std::move(file))));
  } catch (const obd::DataError&) {
  }
  return 0;
}
