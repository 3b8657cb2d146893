#pragma once

#include <zlib.h>
#include <zstd.h>

#include "tests/support/memory.h"

namespace obd::test {

/// One gzip member. `header`: null, or what zlib is to write into the header.
inline Bytes gzip(std::span<const std::byte> content, gz_header* header = nullptr, int level = 6) {
  z_stream stream{};
  OBD_CHECK(::deflateInit2(&stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  if (header != nullptr) ::deflateSetHeader(&stream, header);
  Bytes out(::deflateBound(&stream, content.size()) + 1024);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  OBD_CHECK(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

/// One zstd frame.
inline Bytes zstd(std::span<const std::byte> content, bool checksum = true) {
  ZSTD_CCtx* context = ::ZSTD_createCCtx();
  ::ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum ? 1 : 0);
  Bytes out(::ZSTD_compressBound(content.size()));
  out.resize(::ZSTD_compress2(context, out.data(), out.size(), content.data(), content.size()));
  ::ZSTD_freeCCtx(context);
  return out;
}

inline Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace obd::test
