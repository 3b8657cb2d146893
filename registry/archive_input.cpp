#include "registry/archive_input.h"

#include <archive.h>

#include <algorithm>
#include <new>
#include <span>

namespace obd::registry {

ArchiveInput::ArchiveInput(const ByteSource& source, size_t piece_bytes)
    : source_(source), buffer_(piece_bytes), handle_(archive_read_new()) {
  if (handle_ == nullptr) throw std::bad_alloc();
}

ArchiveInput::~ArchiveInput() {
  archive_read_free(handle_);
}

int ArchiveInput::open() {
  archive_read_set_read_callback(handle_, [](archive*, void* self, const void** data) noexcept {
    auto& input = *static_cast<ArchiveInput*>(self);
    *data = input.buffer_.data();
    return input.guard_.run(la_ssize_t{-1}, [&] {
      const uint64_t left = input.source_.size() - input.position_;
      const std::span piece(input.buffer_.data(), std::min<uint64_t>(input.buffer_.size(), left));
      input.source_.read_at(input.position_, piece);
      input.position_ += piece.size();
      return static_cast<la_ssize_t>(piece.size());
    });
  });
  archive_read_set_skip_callback(handle_, [](archive*, void* self, la_int64_t bytes) noexcept {
    auto& input = *static_cast<ArchiveInput*>(self);
    const uint64_t left = input.source_.size() - input.position_;
    const uint64_t skipped = std::min(left, static_cast<uint64_t>(std::max<la_int64_t>(bytes, 0)));
    input.position_ += skipped;
    return static_cast<la_int64_t>(skipped);
  });
  archive_read_set_callback_data(handle_, this);
  return archive_read_open1(handle_);
}

const char* ArchiveInput::reason() const {
  const char* text = archive_error_string(handle_);
  return text == nullptr ? "libarchive gives no reason" : text;
}

}  // namespace obd::registry
