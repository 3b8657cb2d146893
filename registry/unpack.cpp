#include "registry/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "common/error.h"
#include "common/spool.h"
#include "registry/archive_input.h"
#include "registry/local_blob.h"

namespace obd::registry {
namespace {

using namespace std::string_view_literals;

constexpr size_t kPieceBytes = 256 << 10;

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
  Decompressor(const ByteSource& source, const std::stop_token& stop)
      : source_(source), stop_(stop), input_(source, kPieceBytes) {
    archive_read_support_filter_gzip(input_.handle());
    archive_read_support_filter_zstd(input_.handle());
    archive_read_support_format_raw(input_.handle());
    archive_read_support_format_empty(input_.handle());
    check(input_.open());
  }

  void run(ByteSink& out) {
    archive_entry* entry = nullptr;
    const int found = archive_read_next_header(input_.handle(), &entry);
    if (found == ARCHIVE_EOF) return;
    check(found);
    for (;;) {
      throw_if_stopped(stop_);
      const void* data = nullptr;
      size_t bytes = 0;
      la_int64_t offset = 0;
      const int result = archive_read_data_block(input_.handle(), &data, &bytes, &offset);
      if (result == ARCHIVE_EOF) break;
      check(result);
      out.append({static_cast<const std::byte*>(data), bytes});
    }
    input_.rethrow();
  }

 private:
  void check(int result) const {
    if (result == ARCHIVE_OK) return;
    input_.rethrow();
    throw DataError(fmt::format("{}: unpacking it, at byte {} of {}: {}", source_.name(), input_.position(),
                                source_.size(), input_.reason()));
  }

  const ByteSource& source_;
  const std::stop_token& stop_;
  ArchiveInput input_;
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
