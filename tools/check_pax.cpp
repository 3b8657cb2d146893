#include "tools/check_pax.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "common/error.h"

namespace obd::tools {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kSizeAt = 124;
constexpr size_t kTypeAt = 156;

/// The size field of a header that libarchive has accepted; such headers never need base-256.
size_t size_of(std::span<const std::byte> header) {
  size_t size = 0;
  for (size_t i = kSizeAt; i < kSizeAt + 12; ++i) {
    const char c = static_cast<char>(header[i]);
    if (c >= '0' && c <= '7') size = size * 8 + static_cast<size_t>(c - '0');
  }
  return size;
}

void merge_records(std::string_view text, PaxScanner::Records& into) {
  while (text.find_first_not_of('\0') != std::string_view::npos) {
    size_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    const auto digits = static_cast<size_t>(end - text.data());
    if (error != std::errc() || length > text.size() || length < digits + 3 || text[digits] != ' ') {
      throw DataError("a pax record's length is wrong");
    }
    const std::string_view record = text.substr(digits + 1, length - digits - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) throw DataError("a pax record has no '='");
    into[std::string(record.substr(0, equals))] = std::string(record.substr(equals + 1));
    text.remove_prefix(length);
  }
}

}  // namespace

PaxScanner::Headers PaxScanner::scan(std::span<const std::byte> headers) {
  Records local;
  char type = '\0';
  while (headers.size() >= kBlock) {
    type = static_cast<char>(headers[kTypeAt]);
    if (std::string_view("xXgLKV").find(type) == std::string_view::npos || type == '\0') break;
    const size_t size = size_of(headers);
    const size_t whole = kBlock + (size + kBlock - 1) / kBlock * kBlock;
    if (whole > headers.size()) break;
    const std::string_view text(reinterpret_cast<const char*>(headers.data()) + kBlock, size);
    if (type == 'x' || type == 'X') merge_records(text, local);
    if (type == 'g') merge_records(text, global_);
    headers = headers.subspan(whole);
  }
  // An empty value takes a record back (POSIX pax, "keyword=value").
  Records merged = global_;
  for (auto& [key, value] : local) merged[key] = std::move(value);
  std::erase_if(merged, [](const auto& record) {
    return record.second.empty() && !record.first.starts_with("SCHILY.xattr.");
  });
  return {std::move(merged), type};
}

std::pair<int64_t, uint32_t> parse_pax_time(const std::string& text) {
  const char* end = text.data() + text.size();
  int64_t seconds = 0;
  const auto whole = std::from_chars(text.data(), end, seconds);
  uint32_t nanoseconds = 0;
  uint32_t weight = 100'000'000;
  bool inexact = false;
  const char* at = whole.ptr;
  if (whole.ec == std::errc() && at != end && *at == '.') {
    for (++at; at != end && *at >= '0' && *at <= '9'; ++at, weight /= 10) {
      nanoseconds += static_cast<uint32_t>(*at - '0') * weight;
      inexact = inexact || (weight == 0 && *at != '0');
    }
  }
  if (whole.ec != std::errc() || at != end)
    throw DataError(fmt::format("'{}' is no pax time", text.substr(0, 40)));
  if (!text.starts_with('-')) return {seconds, nanoseconds};
  if (inexact) ++nanoseconds;  // rounding down is away from zero here
  if (nanoseconds == 0) return {seconds, 0};
  return {seconds - 1, 1'000'000'000 - nanoseconds};
}

}  // namespace obd::tools
