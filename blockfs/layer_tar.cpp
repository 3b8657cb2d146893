#include "blockfs/layer_tar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "blockfs/pax_records.h"
#include "blockfs/tar_header.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr size_t kBlock = TarHeader::kBytes;

uint64_t round_up_to_block(uint64_t bytes) {
  return (bytes + kBlock - 1) / kBlock * kBlock;
}

bool has_body(char type) {
  switch (type) {
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
      return false;
    default:
      return true;
  }
}

}  // namespace

class LayerTar::Impl {
 public:
  Impl(std::string name, ChunkStream& in) : name_(std::move(name)), in_(in) {}

  const TarEntry* next();
  std::optional<Data> next_data();
  void drain();
  std::string where() const;
  uint64_t position() const { return position_; }

 private:
  /// What precedes a member: the extended headers that belong to it.
  struct Extended {
    PaxRecords pax;
    std::optional<std::string> long_name;
    std::optional<std::string> long_link;
    bool any_pax = false;
    bool any = false;
  };

  [[noreturn]] void fail(std::string_view cause) const {
    throw TarError(fmt::format("{}: {}", where(), cause));
  }
  bool fill();
  bool read_block(std::span<std::byte, kBlock> out, bool may_end);
  std::span<const std::byte> take(uint64_t at_most);
  void skip(uint64_t bytes);
  std::string read_extended(uint64_t size);

  bool read_header(TarHeader& header);
  bool handle_extended(const TarHeader& header, Extended& extended);
  void fill_entry(const TarHeader& header, Extended& extended);
  void set_type(const TarHeader& header);
  void set_body(const TarHeader& header, const Extended& extended);
  void add_segment(uint64_t offset, uint64_t bytes);
  void read_old_sparse_map(const TarHeader& header);
  void read_sparse_map_1_0(uint64_t& body);
  void check_sparse(uint64_t body) const;

  const std::string name_;
  ChunkStream& in_;
  std::span<const std::byte> chunk_;
  uint64_t position_ = 0;
  bool stream_ended_ = false;
  bool archive_ended_ = false;

  PaxRecords global_;
  TarEntry entry_;
  size_t segment_ = 0;           // the one being read
  uint64_t segment_done_ = 0;    // bytes of it
  uint64_t body_remaining_ = 0;  // stored bytes of the member that were not consumed
  uint64_t padding_ = 0;
};

std::string LayerTar::Impl::where() const {
  const std::string path = entry_.path.substr(0, 200);
  return path.empty() ? fmt::format("{}: tar member at byte {}", name_, entry_.header_offset)
                      : fmt::format("{}: tar member '{}' at byte {}", name_, path, entry_.header_offset);
}

bool LayerTar::Impl::fill() {
  while (chunk_.empty() && !stream_ended_) {
    chunk_ = in_.next();
    stream_ended_ = chunk_.empty();
  }
  return !chunk_.empty();
}

std::span<const std::byte> LayerTar::Impl::take(uint64_t at_most) {
  if (!fill()) fail(fmt::format("the archive ends within it, at byte {}", position_));
  const auto piece = chunk_.first(static_cast<size_t>(std::min<uint64_t>(at_most, chunk_.size())));
  chunk_ = chunk_.subspan(piece.size());
  position_ += piece.size();
  return piece;
}

void LayerTar::Impl::skip(uint64_t bytes) {
  while (bytes > 0) bytes -= take(bytes).size();
}

/// False if the stream ends exactly here and may.
bool LayerTar::Impl::read_block(std::span<std::byte, kBlock> out, bool may_end) {
  if (may_end && !fill()) return false;
  for (size_t got = 0; got < kBlock;) {
    const auto piece = take(kBlock - got);
    std::memcpy(out.data() + got, piece.data(), piece.size());
    got += piece.size();
  }
  return true;
}

std::string LayerTar::Impl::read_extended(uint64_t size) {
  if (size > kMaxExtendedBytes) {
    fail(fmt::format("an extended header of {} bytes; at most {} are accepted", size, kMaxExtendedBytes));
  }
  std::string text;
  text.reserve(size);
  while (text.size() < size) {
    const auto piece = take(size - text.size());
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
  skip(round_up_to_block(size) - size);
  return text;
}

/// False at the end of the archive: two zero blocks, one and the end of the stream, or the end of the stream.
bool LayerTar::Impl::read_header(TarHeader& header) {
  for (int zero_blocks = 0; zero_blocks < 2;) {
    entry_.header_offset = position_;
    if (!read_block(header.bytes(), true)) return false;
    if (!header.is_zero()) {
      if (zero_blocks > 0) fail("a lone zero block stands before it");
      if (!header.checksum_matches()) fail("the header's checksum does not match");
      return true;
    }
    ++zero_blocks;
  }
  return false;
}

/// True if the header only says something of the next one.
bool LayerTar::Impl::handle_extended(const TarHeader& header, Extended& extended) {
  const auto long_text = [&] {
    std::string text = read_extended(header.size(where()));
    text.resize(std::min(text.size(), text.find('\0')));
    if (text.size() > kMaxPathBytes) fail("a long name exceeds what is accepted");
    return text;
  };
  switch (header.type()) {
    case 'x':
    case 'X':  // Solaris
      // What a local header says nothing of, or takes back, is as the global ones say, or nobody.
      if (!extended.any_pax) static_cast<PaxFields&>(extended.pax) = global_;
      extended.pax.parse(read_extended(header.size(where())), where());
      extended.any = extended.any_pax = true;
      return true;
    case 'g':
      global_.parse(read_extended(header.size(where())), where());
      return true;
    case 'L':
      extended.long_name = long_text();
      extended.any = true;
      return true;
    case 'K':
      extended.long_link = long_text();
      extended.any = true;
      return true;
    case 'V':
      skip(round_up_to_block(header.size(where())));
      return true;  // a volume's label
    default:
      return false;
  }
}

const TarEntry* LayerTar::Impl::next() {
  if (archive_ended_) return nullptr;
  skip(body_remaining_);
  skip(padding_);
  body_remaining_ = padding_ = 0;
  entry_ = TarEntry{};
  TarHeader header;
  Extended extended;
  while (true) {
    if (!read_header(header)) {
      if (extended.any) fail("the archive ends behind an extended header");
      archive_ended_ = true;
      return nullptr;
    }
    if (!handle_extended(header, extended)) break;
  }
  fill_entry(header, extended);
  return &entry_;
}

void LayerTar::Impl::set_type(const TarHeader& header) {
  switch (header.type()) {
    case '\0':  // archives older than POSIX mark a directory by its name alone
      entry_.type = entry_.path.ends_with('/') ? TarEntry::Type::kDirectory : TarEntry::Type::kFile;
      break;
    case '0':
    case '7':
    case 'S':
      entry_.type = TarEntry::Type::kFile;
      break;
    case '1':
      entry_.type = TarEntry::Type::kHardlink;
      break;
    case '2':
      entry_.type = TarEntry::Type::kSymlink;
      break;
    case '3':
      entry_.type = TarEntry::Type::kCharDevice;
      break;
    case '4':
      entry_.type = TarEntry::Type::kBlockDevice;
      break;
    case '5':
      entry_.type = TarEntry::Type::kDirectory;
      break;
    case '6':
      entry_.type = TarEntry::Type::kFifo;
      break;
    default: {
      const auto code = static_cast<unsigned char>(header.type());
      fail(code >= 0x20 && code < 0x7F ? fmt::format("unknown member type '{}'", header.type())
                                       : fmt::format("unknown member type 0x{:02x}", code));
    }
  }
}

void LayerTar::Impl::fill_entry(const TarHeader& header, Extended& extended) {
  const PaxRecords& local = extended.pax;
  if (!extended.any_pax) static_cast<PaxFields&>(extended.pax) = global_;
  const auto choose = [&](auto member, auto fallback) {
    return local.*member ? *(local.*member) : fallback();
  };
  using P = PaxFields;
  entry_.path = choose(&P::path, [&] { return extended.long_name.value_or(header.path()); });
  if (local.sparse_name) entry_.path = *local.sparse_name;
  if (entry_.path.empty()) fail("it has no name");
  if (entry_.path.find('\0') != std::string::npos) fail("its name has a NUL byte");
  entry_.link_target =
      choose(&P::link_path, [&] { return extended.long_link.value_or(header.link_target()); });
  set_type(header);
  entry_.mode = static_cast<uint32_t>(header.mode(where()) & 07777);
  entry_.uid = choose(&P::uid, [&] { return header.uid(where()); });
  entry_.gid = choose(&P::gid, [&] { return header.gid(where()); });
  std::tie(entry_.mtime_seconds, entry_.mtime_nanoseconds) =
      choose(&P::mtime, [&] { return std::pair<int64_t, uint32_t>(header.mtime(where()), 0); });
  if (entry_.type == TarEntry::Type::kCharDevice || entry_.type == TarEntry::Type::kBlockDevice) {
    entry_.device_major = choose(&P::device_major, [&] { return header.device_major(where()); });
    entry_.device_minor = choose(&P::device_minor, [&] { return header.device_minor(where()); });
  }
  std::map<std::string, std::string> xattrs = local.xattrs;
  xattrs.insert(global_.xattrs.begin(), global_.xattrs.end());
  entry_.xattrs.assign(xattrs.begin(), xattrs.end());
  set_body(header, extended);
}

void LayerTar::Impl::set_body(const TarHeader& header, const Extended& extended) {
  segment_ = 0;
  segment_done_ = 0;
  const PaxRecords& pax = extended.pax;
  uint64_t body = pax.size ? *pax.size : header.size(where());
  if (!has_body(header.type())) return;  // whatever size it claims
  const uint64_t stored = body;
  if (header.type() == 'S') {
    entry_.size = header.old_sparse_real_size(where());
    read_old_sparse_map(header);
    check_sparse(body);
  } else if (pax.sparse_major || pax.sparse_minor) {
    if (pax.sparse_major != 1u || pax.sparse_minor != 0u) fail("unknown version of GNU sparse format");
    if (!pax.sparse_size) fail("GNU.sparse.realsize is missing");
    entry_.size = *pax.sparse_size;
    read_sparse_map_1_0(body);
    check_sparse(body);
  } else if (pax.sparse_size && (!pax.sparse_map.empty() || body == 0)) {
    if (pax.sparse_pieces && *pax.sparse_pieces != pax.sparse_map.size()) {
      fail(fmt::format("its sparse map has {} pieces, but GNU.sparse.numblocks says {}",
                       pax.sparse_map.size(), *pax.sparse_pieces));
    }
    entry_.size = *pax.sparse_size;
    for (const auto& [offset, bytes] : pax.sparse_map) add_segment(offset, bytes);
    check_sparse(body);
  } else {
    entry_.size = body;
    add_segment(0, body);
  }
  body_remaining_ = body;
  padding_ = round_up_to_block(stored) - stored;
}

void LayerTar::Impl::add_segment(uint64_t offset, uint64_t bytes) {
  const uint64_t end =
      entry_.segments.empty() ? 0 : entry_.segments.back().offset + entry_.segments.back().bytes;
  if (offset < end || offset > entry_.size || bytes > entry_.size - offset) {
    fail(fmt::format("its sparse map has a piece of {} bytes at {} that overlaps or lies beyond the end, {}",
                     bytes, offset, entry_.size));
  }
  if (bytes == 0) return;  // marks the file's end
  if (entry_.segments.size() == kMaxSegments) fail("its sparse map has too many pieces");
  entry_.segments.push_back({offset, bytes});
}

void LayerTar::Impl::read_old_sparse_map(const TarHeader& header) {
  const auto add = [&](std::span<const std::pair<uint64_t, uint64_t>> pieces) {
    for (const auto& [offset, bytes] : pieces) add_segment(offset, bytes);
  };
  add(header.old_sparse_pieces(where()));
  for (bool more = header.old_sparse_continues(); more;) {
    TarHeader continuation;
    read_block(continuation.bytes(), false);
    add(continuation.old_sparse_continuation(where()));
    more = continuation.old_sparse_continuation_continues();
  }
}

/// The body starts with the map: numbers, one a line, padded to a block.
void LayerTar::Impl::read_sparse_map_1_0(uint64_t& body) {
  const uint64_t start = position_;
  std::array<std::byte, kBlock> block;
  size_t at = kBlock;
  const auto read_number = [&] {
    std::string digits;
    while (true) {
      if (at == kBlock) {
        if (position_ - start + kBlock > body) fail("its sparse map runs over its end");
        read_block(block, false);
        at = 0;
      }
      const char c = static_cast<char>(block[at++]);
      if (c == '\n') break;
      digits += c;
      if (digits.size() > 20) break;
    }
    const auto value = parse_decimal(digits);
    if (!value) fail("its sparse map holds something else than numbers");
    return *value;
  };
  const uint64_t count = read_number();
  if (count > kMaxSegments) fail("its sparse map has too many pieces");
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t offset = read_number();
    add_segment(offset, read_number());
  }
  body -= position_ - start;
}

void LayerTar::Impl::check_sparse(uint64_t body) const {
  uint64_t mapped = 0;
  for (const auto& segment : entry_.segments) mapped += segment.bytes;
  if (mapped != body) fail(fmt::format("its sparse map covers {} bytes, but it stores {}", mapped, body));
}

std::optional<LayerTar::Data> LayerTar::Impl::next_data() {
  if (body_remaining_ == 0 || segment_ == entry_.segments.size()) return std::nullopt;
  const TarEntry::Segment& segment = entry_.segments[segment_];
  const uint64_t tar_offset = position_;
  const auto piece = take(std::min(segment.bytes - segment_done_, body_remaining_));
  const Data data{segment.offset + segment_done_, tar_offset, piece};
  body_remaining_ -= piece.size();
  segment_done_ += piece.size();
  if (segment_done_ == segment.bytes) {
    ++segment_;
    segment_done_ = 0;
  }
  return data;
}

void LayerTar::Impl::drain() {
  while (fill()) {
    position_ += chunk_.size();
    chunk_ = {};
  }
}

LayerTar::LayerTar(std::string name, ChunkStream& in) : impl_(std::make_unique<Impl>(std::move(name), in)) {}
LayerTar::~LayerTar() = default;
const TarEntry* LayerTar::next() {
  return impl_->next();
}
std::optional<LayerTar::Data> LayerTar::next_data() {
  return impl_->next_data();
}
void LayerTar::drain() {
  impl_->drain();
}
std::string LayerTar::describe_member() const {
  return impl_->where();
}
uint64_t LayerTar::position() const {
  return impl_->position();
}

}  // namespace obd::blockfs
