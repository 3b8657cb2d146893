#include "registry/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "common/c_handle.h"
#include "common/error.h"
#include "common/spool.h"
#include "registry/callback_guard.h"
#include "registry/local_blob.h"

namespace obd::registry {
namespace {

using namespace std::string_view_literals;
using ReadHandle = CHandle<archive, archive_read_free>;

constexpr size_t kReadBytes = 256 << 10;

struct Magic {
  std::string_view name;
  std::string_view bytes;
};

constexpr std::array kMagics = {Magic{"gzip", "\x1F\x8B"sv}, Magic{"zstd", "\x28\xB5\x2F\xFD"sv},
                                Magic{"xz", "\xFD\x37zXZ\0"sv}, Magic{"bzip2", "BZh"sv},
                                Magic{"lz4", "\x04\x22\x4D\x18"sv}};

/// libarchive as a decompressor: "raw" takes any content as the only member of an archive.
class Decompressor {
 public:
  Decompressor(const ByteSource& source, const std::stop_token& stop) : source_(source), stop_(stop) {
    archive_read_support_filter_gzip(handle_.get());
    archive_read_support_filter_zstd(handle_.get());
    archive_read_support_format_raw(handle_.get());
    archive_read_support_format_empty(handle_.get());
    check(archive_read_open(handle_.get(), this, nullptr, on_read, nullptr));
  }

  void run(ByteSink& out) {
    archive_entry* entry = nullptr;
    const int found = archive_read_next_header(handle_.get(), &entry);
    if (found == ARCHIVE_EOF) return;
    check(found);
    for (;;) {
      throw_if_stopped(stop_);
      const void* data = nullptr;
      size_t bytes = 0;
      la_int64_t offset = 0;
      const int result = archive_read_data_block(handle_.get(), &data, &bytes, &offset);
      if (result == ARCHIVE_EOF) break;
      check(result);
      out.append({static_cast<const std::byte*>(data), bytes});
    }
    guard_.rethrow();
  }

 private:
  void check(int result) const {
    if (result == ARCHIVE_OK) return;
    guard_.rethrow();
    const char* text = archive_error_string(handle_.get());
    throw DataError(fmt::format("{}: unpacking it, at byte {} of {}: {}", source_.name(), position_,
                                source_.size(), text == nullptr ? "libarchive gives no reason" : text));
  }

  static la_ssize_t on_read(archive*, void* self, const void** data) noexcept {
    auto& reader = *static_cast<Decompressor*>(self);
    *data = reader.buffer_.data();
    return reader.guard_.run(la_ssize_t{-1}, [&] {
      const uint64_t left = reader.source_.size() - reader.position_;
      const std::span piece(reader.buffer_.data(), std::min<uint64_t>(reader.buffer_.size(), left));
      reader.source_.read_at(reader.position_, piece);
      reader.position_ += piece.size();
      return static_cast<la_ssize_t>(piece.size());
    });
  }

  const ByteSource& source_;
  const std::stop_token& stop_;
  uint64_t position_ = 0;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kReadBytes);
  CallbackGuard guard_;
  ReadHandle handle_{archive_read_new()};
};

}  // namespace

std::optional<std::string_view> compression_of(const ByteSource& source) {
  std::array<char, 6> start{};
  const size_t bytes = std::min<uint64_t>(start.size(), source.size());
  source.read_at(0, std::as_writable_bytes(std::span(start.data(), bytes)));
  for (const Magic& magic : kMagics) {
    if (std::string_view(start.data(), bytes).starts_with(magic.bytes)) return magic.name;
  }
  return std::nullopt;
}

std::shared_ptr<const ByteSource> unpack(const ByteSource& source, const std::filesystem::path& directory,
                                         const std::stop_token& stop) {
  auto spool = std::make_shared<Spool>(Spool::Options{.directory = directory, .memory_limit = 0});
  Decompressor(source, stop).run(*spool);
  return spool;
}

}  // namespace obd::registry
