#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/byte_source.h"
#include "common/error.h"

namespace obd::test {

using Bytes = std::vector<std::byte>;

inline Bytes to_bytes(std::string_view text) {
  const auto* start = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(start, start + text.size());
}

/// Bytes in memory as a source.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(Bytes bytes) : bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_.size(); }
  std::string name() const override { return "memory"; }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override {
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }

 private:
  Bytes bytes_;
};

/// Collects what is appended; can be told to fail.
class MemorySink final : public ByteSink {
 public:
  /// The append() that would grow it beyond `fail_at` bytes throws IoError.
  explicit MemorySink(uint64_t fail_at = UINT64_MAX) : fail_at_(fail_at) {}

  void append(std::span<const std::byte> data) override {
    if (bytes_.size() + data.size() > fail_at_) throw IoError("the sink is full");
    bytes_.insert(bytes_.end(), data.begin(), data.end());
  }
  void overwrite(uint64_t offset, std::span<const std::byte> data) override {
    OBD_CHECK(offset <= bytes_.size() && data.size() <= bytes_.size() - offset);
    std::copy(data.begin(), data.end(), bytes_.begin() + static_cast<ptrdiff_t>(offset));
  }
  uint64_t size() const override { return bytes_.size(); }
  const Bytes& bytes() const { return bytes_; }

 private:
  uint64_t fail_at_;
  Bytes bytes_;
};

inline std::shared_ptr<const ByteSource> source_of(Bytes bytes) {
  return std::make_shared<MemorySource>(std::move(bytes));
}

inline Bytes read_all(const ByteSource& source) {
  Bytes bytes(source.size());
  source.read_at(0, bytes);
  return bytes;
}

}  // namespace obd::test
