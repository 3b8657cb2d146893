#include "registry/tar_writer.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "common/c_handle.h"
#include "common/error.h"
#include "registry/callback_guard.h"
#include "registry/local_blob.h"

namespace obd::registry {
namespace {

using WriteHandle = CHandle<archive, archive_write_free>;
using EntryHandle = CHandle<archive_entry, archive_entry_free>;

constexpr size_t kPieceBytes = 1 << 20;

class TarWriter {
 public:
  explicit TarWriter(ByteSink& out) : out_(out) {
    check(archive_write_set_format_pax_restricted(handle_.get()));
    check(archive_write_set_bytes_per_block(handle_.get(), 0));  // content goes through uncopied
    check(archive_write_open(handle_.get(), this, nullptr, on_write, nullptr));
  }

  void add(const std::string& name, const ByteSource& content, const std::stop_token& stop) {
    archive_entry_clear(entry_.get());
    archive_entry_set_pathname(entry_.get(), name.c_str());
    archive_entry_set_filetype(entry_.get(), AE_IFREG);
    archive_entry_set_perm(entry_.get(), 0644);
    archive_entry_set_mtime(entry_.get(), 0, 0);
    archive_entry_set_size(entry_.get(), static_cast<la_int64_t>(content.size()));
    check(archive_write_header(handle_.get(), entry_.get()));
    for (uint64_t offset = 0; offset < content.size();) {
      throw_if_stopped(stop);
      const std::span piece(buffer_.data(), std::min<uint64_t>(buffer_.size(), content.size() - offset));
      content.read_at(offset, piece);
      if (archive_write_data(handle_.get(), piece.data(), piece.size()) !=
          static_cast<la_ssize_t>(piece.size())) {
        check(ARCHIVE_FATAL);
      }
      guard_.rethrow();
      offset += piece.size();
    }
  }

  void finish() { check(archive_write_close(handle_.get())); }

 private:
  void check(int result) const {
    guard_.rethrow();
    if (result == ARCHIVE_OK) return;
    const char* text = archive_error_string(handle_.get());
    throw IoError(
        fmt::format("writing a tar archive: {}", text == nullptr ? "libarchive gives no reason" : text));
  }

  /// libarchive is never told of a failure: it would forget to free what it holds. What it writes after one,
  /// an end mark at the least, goes nowhere.
  static la_ssize_t on_write(archive*, void* self, const void* data, size_t bytes) noexcept {
    auto& writer = *static_cast<TarWriter*>(self);
    return writer.guard_.run(static_cast<la_ssize_t>(bytes), [&] {
      writer.guard_.rethrow();
      writer.out_.append({static_cast<const std::byte*>(data), bytes});
      return static_cast<la_ssize_t>(bytes);
    });
  }

  ByteSink& out_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kPieceBytes);
  CallbackGuard guard_;
  EntryHandle entry_{archive_entry_new()};
  WriteHandle handle_{archive_write_new()};
};

}  // namespace

void write_tar(ByteSink& out, const TarContent& members, const std::stop_token& stop) {
  TarWriter writer(out);
  for (const auto& [name, content] : members) writer.add(name, *content, stop);
  writer.finish();
}

}  // namespace obd::registry
