#include "blockfs/tar_wrapper.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <string>
#include <string_view>

#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr size_t kBlock = 512;
using Block = std::array<std::byte, kBlock>;

constexpr size_t kModeAt = 100;
constexpr size_t kSizeAt = 124;
constexpr size_t kChecksumAt = 148;
constexpr size_t kTypeAt = 156;
constexpr size_t kMagicAt = 257;

void put(Block& block, size_t at, std::string_view text) {
  std::memcpy(&block[at], text.data(), text.size());
}

uint32_t checksum(const Block& block) {
  uint32_t sum = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    sum += i >= kChecksumAt && i < kChecksumAt + 8 ? uint32_t{' '} : std::to_integer<uint32_t>(block[i]);
  }
  return sum;
}

Block make_header(std::string_view name, char type, uint64_t size) {
  Block block{};
  put(block, 0, name);
  put(block, kModeAt, "0000444");
  put(block, kModeAt + 8, "0000000");   // uid
  put(block, kModeAt + 16, "0000000");  // gid
  put(block, kSizeAt, fmt::format("{:011o}", size));
  put(block, kSizeAt + 12, "00000000000");  // mtime
  block[kTypeAt] = static_cast<std::byte>(type);
  put(block, kMagicAt, std::string_view("ustar\00000", 8));
  put(block, kChecksumAt, fmt::format("{:06o}", checksum(block)));
  put(block, kChecksumAt + 6, std::string_view("\0 ", 2));
  return block;
}

/// "NN size=SIZE\n" where NN counts itself.
std::string size_record(uint64_t size) {
  const std::string body = fmt::format(" size={}\n", size);
  size_t length = body.size() + 1;
  while (fmt::format("{}", length).size() + body.size() != length) ++length;
  return fmt::format("{}{}", length, body);
}

uint64_t octal(const Block& block, size_t at, size_t width, std::string_view what) {
  uint64_t value = 0;
  for (size_t i = at; i < at + width; ++i) {
    const auto c = std::to_integer<unsigned char>(block[i]);
    if (c == ' ' || c == 0) continue;
    if (c < '0' || c > '7') throw DataError(fmt::format("{}: bad octal number in the tar header", what));
    value = value * 8 + (c - '0');
  }
  return value;
}

struct Header {
  Block block;
  char type;
  uint64_t size;
};

std::optional<Header> read_header(const ByteSource& source, uint64_t offset) {
  if (source.size() < offset + kBlock) return std::nullopt;
  Header header{};
  source.read_at(offset, header.block);
  if (std::memcmp(&header.block[kMagicAt], "ustar", 5) != 0) return std::nullopt;
  if (octal(header.block, kChecksumAt, 8, source.name()) != checksum(header.block)) {
    throw DataError(fmt::format("{}: wrong checksum of the tar header at byte {}", source.name(), offset));
  }
  header.type = static_cast<char>(header.block[kTypeAt]);
  header.size = octal(header.block, kSizeAt, 12, source.name());
  return header;
}

std::optional<uint64_t> parse_size_record(std::string_view records, std::string_view what) {
  while (!records.empty() && records.front() != '\0') {
    size_t length = 0;
    const auto parsed = std::from_chars(records.data(), records.data() + records.size(), length);
    const size_t digits = static_cast<size_t>(parsed.ptr - records.data());
    if (parsed.ec != std::errc() || length > records.size() || length < digits + 2) {
      throw DataError(fmt::format("{}: malformed pax record in the tar wrapper", what));
    }
    std::string_view record = records.substr(digits + 1, length - digits - 2);
    if (record.starts_with("size=")) {
      record.remove_prefix(5);
      uint64_t size = 0;
      const auto value = std::from_chars(record.data(), record.data() + record.size(), size);
      if (value.ec != std::errc() || value.ptr != record.data() + record.size()) {
        throw DataError(fmt::format("{}: malformed size in the tar wrapper", what));
      }
      return size;
    }
    records.remove_prefix(length);
  }
  return std::nullopt;
}

}  // namespace

std::array<std::byte, kTarWrapperHeaderBytes> encode_tar_wrapper_header(uint64_t content_bytes) {
  const std::string record = size_record(content_bytes);
  Block records{};
  put(records, 0, record);
  std::array<std::byte, kTarWrapperHeaderBytes> out{};
  const Block pax = make_header("overlaybd.pax", 'x', record.size());
  const Block member = make_header("overlaybd.commit", '0', 0);
  std::memcpy(out.data(), pax.data(), kBlock);
  std::memcpy(out.data() + kBlock, records.data(), kBlock);
  std::memcpy(out.data() + 2 * kBlock, member.data(), kBlock);
  return out;
}

std::vector<std::byte> encode_tar_wrapper_end(uint64_t content_bytes) {
  const size_t padding = static_cast<size_t>((kBlock - content_bytes % kBlock) % kBlock);
  return std::vector<std::byte>(padding + 2 * kBlock);
}

std::shared_ptr<const ByteSource> open_tar_wrapper(std::shared_ptr<const ByteSource> source) {
  auto header = read_header(*source, 0);
  if (!header) return nullptr;
  uint64_t offset = 0;
  std::optional<uint64_t> size;
  if (header->type == 'x') {
    if (header->size > kBlock) {
      throw DataError(
          fmt::format("{}: a pax header of {} bytes is no layer's", source->name(), header->size));
    }
    Block records{};
    source->read_at(kBlock, records);
    size = parse_size_record({reinterpret_cast<const char*>(records.data()), header->size}, source->name());
    offset = 2 * kBlock;
    header = read_header(*source, offset);
  }
  if (!header || (header->type != '0' && header->type != '\0')) {
    throw DataError(
        fmt::format("{}: the tar archive does not hold a layer as its first member", source->name()));
  }
  return std::make_shared<SubSource>(source, offset + kBlock, size.value_or(header->size));
}

}  // namespace obd::blockfs
