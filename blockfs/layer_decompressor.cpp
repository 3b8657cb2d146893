#include "blockfs/layer_decompressor.h"

#include <fmt/format.h>
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "common/c_handle.h"
#include "common/endian.h"
#include "common/error.h"

namespace obd::blockfs {

class LayerDecompressor::Format {
 public:
  Format(std::string what, ChunkSink& out) : out_(out), what_(std::move(what)) {}
  virtual ~Format() = default;
  virtual void feed(std::span<const std::byte> data) = 0;
  virtual void finish() = 0;

 protected:
  [[noreturn]] void fail(std::string_view cause) const {
    throw DataError(fmt::format("{}: byte {} of the compressed stream: {}", what_, consumed_, cause));
  }

  ChunkSink& out_;
  std::string what_;
  uint64_t consumed_ = 0;  // compressed bytes
};

namespace {

constexpr size_t kMagicBytes = 4;
constexpr uint16_t kGzipMagic = 0x8B1F;

class Plain final : public LayerDecompressor::Format {
 public:
  using Format::Format;
  void feed(std::span<const std::byte> data) override {
    while (!data.empty()) {
      const auto space = out_.space();
      const size_t take = std::min(space.size(), data.size());
      std::memcpy(space.data(), data.data(), take);
      out_.advance(take);
      data = data.subspan(take);
    }
  }
  void finish() override {}
};

std::string_view inflate_error(int code) {
  switch (code) {
    case ISAL_INVALID_BLOCK:
      return "invalid deflate block";
    case ISAL_INVALID_SYMBOL:
      return "invalid deflate symbol";
    case ISAL_INVALID_LOOKBACK:
      return "a deflate match reaches before the start";
    case ISAL_INCORRECT_CHECKSUM:
      return "the gzip member's CRC or length does not match";
    default:
      return "damaged gzip data";
  }
}

/// The header is parsed here: the library refuses a header checksum that is right.
class Gzip final : public LayerDecompressor::Format {
 public:
  Gzip(std::string what, ChunkSink& out) : Format(std::move(what), out) { isal_inflate_init(state_.get()); }

  void feed(std::span<const std::byte> data) override {
    while (!data.empty()) {
      if (position_ == Position::kBetweenMembers && !start_of_member(data)) return;
      const size_t given = data.size();
      if (position_ == Position::kHeader) {
        read_header(data);
      } else {
        inflate(data);
      }
      consumed_ += given - data.size();
    }
  }

  void finish() override {
    if (position_ != Position::kBetweenMembers) fail("the gzip stream is cut off");
  }

 private:
  enum class Position { kHeader, kBody, kBetweenMembers };
  static constexpr size_t kMaxHeaderBytes = 1 << 20;

  /// Takes what belongs to the header; the rest stays in `data`. Copies little more than the header is long:
  /// a stream may have millions of members.
  void read_header(std::span<const std::byte>& data) {
    const size_t before = header_.size();
    const auto more = data.first(std::min(data.size(), std::max<size_t>(512, before)));
    header_.insert(header_.end(), more.begin(), more.end());
    const auto length = header_length();
    if (!length) {
      if (header_.size() > kMaxHeaderBytes) fail("a gzip header of more than 1 MiB");
      data = data.subspan(more.size());
      return;
    }
    data = data.subspan(*length - before);
    header_.clear();
    isal_inflate_reset(state_.get());
    state_->crc_flag = ISAL_GZIP_NO_HDR_VER;
    position_ = Position::kBody;
  }

  /// RFC 1952 §2.3; none if there is more to come.
  std::optional<size_t> header_length() const {
    constexpr size_t kFixedBytes = 10;
    enum Flag : uint8_t { kHeaderCrc = 2, kExtra = 4, kName = 8, kComment = 16, kReserved = 0xE0 };
    if (header_.size() >= 2 && load_le<uint16_t>(header_.data()) != kGzipMagic) fail("no gzip magic");
    if (header_.size() < kFixedBytes) return std::nullopt;
    if (header_[2] != std::byte{8}) fail("unsupported gzip compression method");
    const auto flags = std::to_integer<uint8_t>(header_[3]);
    if (flags & kReserved) fail("unknown gzip flags");
    size_t at = kFixedBytes;
    if (flags & kExtra) {
      if (header_.size() < at + 2) return std::nullopt;
      at += 2 + size_t{load_le<uint16_t>(&header_[at])};
    }
    for (const Flag text : {kName, kComment}) {
      if (!(flags & text)) continue;
      if (at >= header_.size()) return std::nullopt;
      const auto end = std::find(header_.begin() + static_cast<ptrdiff_t>(at), header_.end(), std::byte{0});
      if (end == header_.end()) return std::nullopt;
      at = static_cast<size_t>(end - header_.begin()) + 1;
    }
    if (flags & kHeaderCrc) {
      if (header_.size() < at + 2) return std::nullopt;
      const uint32_t crc = ::crc32_gzip_refl(0, reinterpret_cast<const uint8_t*>(header_.data()), at);
      if (load_le<uint16_t>(&header_[at]) != (crc & 0xFFFF)) fail("the gzip header's CRC does not match");
      at += 2;
    }
    return at <= header_.size() ? std::optional(at) : std::nullopt;
  }

  /// Zero padding may follow the last member, nothing else.
  bool start_of_member(std::span<const std::byte>& data) {
    if (!padding_ && data.front() != std::byte{0}) {
      position_ = Position::kHeader;
      return true;
    }
    padding_ = true;
    const auto other = std::find_if(data.begin(), data.end(), [](std::byte b) { return b != std::byte{0}; });
    consumed_ += static_cast<uint64_t>(other - data.begin());
    if (other != data.end()) fail("there is garbage behind the gzip stream");
    return false;
  }

  void inflate(std::span<const std::byte>& data) {
    auto* bytes = reinterpret_cast<uint8_t*>(const_cast<std::byte*>(data.data()));  // it does not write
    state_->next_in = bytes;
    state_->avail_in = static_cast<uint32_t>(data.size());
    while (true) {
      const auto space = out_.space();
      state_->next_out = reinterpret_cast<uint8_t*>(space.data());
      state_->avail_out = static_cast<uint32_t>(space.size());
      const int result = ::isal_inflate(state_.get());
      const size_t made = space.size() - state_->avail_out;
      if (made > 0) out_.advance(made);
      if (result < 0 || result == ISAL_NEED_DICT) {
        consumed_ += data.size() - state_->avail_in;
        fail(inflate_error(result));
      }
      if (state_->block_state == ISAL_BLOCK_FINISH) {
        position_ = Position::kBetweenMembers;
        break;
      }
      if (state_->avail_in == 0 && state_->avail_out != 0) break;
    }
    data = data.last(state_->avail_in);
  }

  std::unique_ptr<inflate_state> state_ = std::make_unique<inflate_state>();
  Position position_ = Position::kHeader;
  std::vector<std::byte> header_;
  bool padding_ = false;
};

class Zstd final : public LayerDecompressor::Format {
 public:
  Zstd(std::string what, ChunkSink& out) : Format(std::move(what), out), context_(ZSTD_createDCtx()) {
    OBD_CHECK(context_ != nullptr);
  }

  void feed(std::span<const std::byte> data) override {
    ZSTD_inBuffer in{data.data(), data.size(), 0};
    bool out_full = false;
    while (in.pos < in.size || out_full) {
      const auto space = out_.space();
      ZSTD_outBuffer out{space.data(), space.size(), 0};
      const size_t before = in.pos;
      const size_t result = ZSTD_decompressStream(context_.get(), &out, &in);
      consumed_ += in.pos - before;
      if (ZSTD_isError(result)) fail(ZSTD_getErrorName(result));
      if (out.pos > 0) out_.advance(out.pos);
      out_full = out.pos == out.size;
      within_frame_ = result != 0;
      if (in.pos == in.size && !within_frame_) break;
    }
  }

  void finish() override {
    if (within_frame_) fail("the zstd stream is cut off");
  }

 private:
  CHandle<ZSTD_DCtx, ZSTD_freeDCtx> context_;
  bool within_frame_ = false;
};

bool is_zstd(uint32_t magic) {
  return magic == 0xFD2FB528 || (magic & 0xFFFFFFF0) == 0x184D2A50;
}

}  // namespace

LayerDecompressor::LayerDecompressor(std::string what, ChunkSink& out) : what_(std::move(what)), out_(out) {}
LayerDecompressor::~LayerDecompressor() = default;

void LayerDecompressor::choose_format() {
  if (start_.size() >= 2 && load_le<uint16_t>(start_.data()) == kGzipMagic) {
    format_ = std::make_unique<Gzip>(what_, out_);
  } else if (start_.size() >= kMagicBytes && is_zstd(load_le<uint32_t>(start_.data()))) {
    format_ = std::make_unique<Zstd>(what_, out_);
  } else {
    format_ = std::make_unique<Plain>(what_, out_);
  }
  format_->feed(start_);
  start_.clear();
}

void LayerDecompressor::feed(std::span<const std::byte> data) {
  if (!format_) {
    const size_t take = std::min(data.size(), kMagicBytes - start_.size());
    start_.insert(start_.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(take));
    data = data.subspan(take);
    if (start_.size() < kMagicBytes) return;
    choose_format();
  }
  if (!data.empty()) format_->feed(data);
}

void LayerDecompressor::finish() {
  if (!format_) choose_format();
  format_->finish();
}

}  // namespace obd::blockfs
