#include "blockfs/pax_records.h"

#include <fmt/format.h>

#include <charconv>

#include "blockfs/layer_tar.h"
#include "common/percent.h"

namespace obd::blockfs {
namespace {

[[noreturn]] void fail(std::string_view what, std::string_view cause) {
  throw TarError(fmt::format("{}: pax header: {}", what, cause));
}

int64_t parse_seconds(std::string_view text, bool negative, std::string_view what, std::string_view all) {
  int64_t seconds = 0;
  const std::string with_sign = fmt::format("{}{}", negative ? "-" : "", text);
  const auto parsed = std::from_chars(with_sign.data(), with_sign.data() + with_sign.size(), seconds);
  if (parsed.ec != std::errc() || parsed.ptr != with_sign.data() + with_sign.size()) {
    fail(what, fmt::format("'{}' is not a time", all.substr(0, 40)));
  }
  return seconds;
}

/// "[-]seconds[.fraction]"; digits beyond nanoseconds are cut off, towards the past.
std::pair<int64_t, uint32_t> parse_time(std::string_view text, std::string_view what) {
  const std::string_view all = text;
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const size_t dot = text.find('.');
  int64_t seconds = parse_seconds(text.substr(0, dot), negative, what, all);
  uint32_t nanoseconds = 0;
  bool below_nanoseconds = false;
  if (dot != std::string_view::npos) {
    const std::string_view fraction = text.substr(dot + 1);
    for (size_t i = 0; i < fraction.size(); ++i) {
      const char c = fraction[i];
      if (c < '0' || c > '9') fail(what, fmt::format("'{}' is not a time", all.substr(0, 40)));
      if (i < 9) nanoseconds = nanoseconds * 10 + static_cast<uint32_t>(c - '0');
      if (i >= 9 && c != '0') below_nanoseconds = true;
    }
    for (size_t i = fraction.size(); i < 9; ++i) nanoseconds *= 10;
  }
  if (!negative || (nanoseconds == 0 && !below_nanoseconds)) return {seconds, nanoseconds};
  if (seconds == INT64_MIN) fail(what, fmt::format("'{}' is not a time", all.substr(0, 40)));
  if (below_nanoseconds) ++nanoseconds;
  if (nanoseconds == 1'000'000'000) return {seconds - 1, 0};
  return {seconds - 1, 1'000'000'000 - nanoseconds};
}

/// Base64 with or without padding (RFC 4648 §4).
std::string decode_base64(std::string_view text, std::string_view what) {
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (const char c : text) {
    uint32_t value = 0;
    if (c >= 'A' && c <= 'Z')
      value = static_cast<uint32_t>(c - 'A');
    else if (c >= 'a' && c <= 'z')
      value = static_cast<uint32_t>(c - 'a') + 26;
    else if (c >= '0' && c <= '9')
      value = static_cast<uint32_t>(c - '0') + 52;
    else if (c == '+')
      value = 62;
    else if (c == '/')
      value = 63;
    else
      fail(what, "an xattr's value is not base64");
    bits = (bits << 6) | value;
    count += 6;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>((bits >> count) & 0xFF);
    }
  }
  return out;
}

uint64_t number(std::string_view key, std::string_view value, uint64_t limit, std::string_view what) {
  const auto parsed = parse_decimal(value);
  if (!parsed || *parsed > limit) {
    fail(what, fmt::format("'{}' is not a valid {}", value.substr(0, 40), key));
  }
  return *parsed;
}

void set_sparse_map(PaxRecords& records, std::string_view value, std::string_view what) {
  records.sparse_map.clear();
  while (!value.empty()) {
    uint64_t pair[2];
    for (uint64_t& field : pair) {
      const size_t comma = value.find(',');
      field = number("GNU.sparse.map", value.substr(0, comma), INT64_MAX, what);
      value.remove_prefix(comma == std::string_view::npos ? value.size() : comma + 1);
    }
    records.sparse_map.emplace_back(pair[0], pair[1]);
  }
}

void set_sparse(PaxRecords& records, std::string_view key, std::string_view value, std::string_view what) {
  const auto parse = [&] { return number(key, value, INT64_MAX, what); };
  if (key == "GNU.sparse.major")
    records.sparse_major = parse();
  else if (key == "GNU.sparse.minor")
    records.sparse_minor = parse();
  else if (key == "GNU.sparse.name")
    records.sparse_name = std::string(value);
  else if (key == "GNU.sparse.realsize" || key == "GNU.sparse.size")
    records.sparse_size = parse();
  else if (key == "GNU.sparse.numblocks")
    records.sparse_pieces = parse();
  else if (key == "GNU.sparse.map")
    set_sparse_map(records, value, what);
  else if (key == "GNU.sparse.offset")
    records.sparse_map.emplace_back(parse(), 0);
  else if (key == "GNU.sparse.numbytes") {
    if (records.sparse_map.empty()) fail(what, "GNU.sparse.numbytes without an offset");
    records.sparse_map.back().second = parse();
  }
}

/// The text up to the limit of what a file system takes; NUL would end it early in C.
std::string path_text(std::string_view key, std::string_view value, std::string_view what) {
  if (value.find('\0') != std::string_view::npos) fail(what, fmt::format("NUL byte in {}", key));
  if (value.size() > LayerTar::kMaxPathBytes) {
    fail(what, fmt::format("{} of {} bytes; at most {}", key, value.size(), LayerTar::kMaxPathBytes));
  }
  return std::string(value);
}

template <class T, class Make>
void assign(std::optional<T>& field, std::string_view value, Make make) {
  if (value.empty())
    field.reset();
  else
    field = static_cast<T>(make());
}

void set(PaxRecords& records, std::string_view key, std::string_view value, std::string_view what) {
  constexpr std::string_view kSchily = "SCHILY.xattr.";
  constexpr std::string_view kLibarchive = "LIBARCHIVE.xattr.";
  const auto id = [&] { return number(key, value, UINT32_MAX, what); };
  if (key == "path")
    assign(records.path, value, [&] { return path_text(key, value, what); });
  else if (key == "linkpath")
    assign(records.link_path, value, [&] { return path_text(key, value, what); });
  else if (key == "size")
    assign(records.size, value, [&] { return number(key, value, INT64_MAX, what); });
  else if (key == "uid")
    assign(records.uid, value, id);
  else if (key == "gid")
    assign(records.gid, value, id);
  else if (key == "SCHILY.devmajor")
    assign(records.device_major, value, id);
  else if (key == "SCHILY.devminor")
    assign(records.device_minor, value, id);
  else if (key == "mtime") {
    if (value.empty())
      records.mtime.reset();
    else
      records.mtime = parse_time(value, what);
  } else if (key == kSchily || key == kLibarchive) {
    fail(what, "an extended attribute without a name");
  } else if (key.starts_with(kSchily)) {
    records.xattrs[std::string(key.substr(kSchily.size()))] = std::string(value);
  } else if (key.starts_with(kLibarchive)) {
    // SCHILY's form of the same attribute is the plain one: it wins where both are there.
    const auto name = percent_decode(key.substr(kLibarchive.size()));
    if (!name) fail(what, "bad %-escape in an xattr's name");
    records.xattrs.try_emplace(*name, decode_base64(value, what));
  } else if (key.starts_with("GNU.sparse.")) {
    set_sparse(records, key, value, what);
  }
}

}  // namespace

std::optional<uint64_t> parse_decimal(std::string_view text) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

void PaxRecords::parse(std::string_view records, std::string_view what) {
  while (!records.empty()) {
    if (records.find_first_not_of('\0') == std::string_view::npos) return;  // some writers pad
    const size_t space = records.find(' ');
    const auto length =
        space == std::string_view::npos ? std::nullopt : parse_decimal(records.substr(0, space));
    if (!length || *length > records.size() || *length < space + 3 || records[*length - 1] != '\n') {
      fail(what, "a record's length is wrong");
    }
    const std::string_view record = records.substr(space + 1, *length - space - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) fail(what, "a record has no keyword");
    set(*this, record.substr(0, equals), record.substr(equals + 1), what);
    if (sparse_map.size() > LayerTar::kMaxSegments) fail(what, "too many pieces in a sparse file");
    records.remove_prefix(*length);
  }
}

}  // namespace obd::blockfs
