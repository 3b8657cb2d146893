#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>

#include "registry/blob_server.h"

namespace obd::registry {

/// The server sends a blob only from its start.
class RangesUnsupported : public Error {
 public:
  explicit RangesUnsupported(std::string message) : Error(std::move(message), ExitCode::kNetwork) {}
};

/// Reads bytes [begin, end) of a blob, in order, in as many requests as it takes: each goes on where the one
/// before broke off. Servers that do not know Range, or refuse it, are read from the start, up to the end of
/// the range.
///
/// Threads: one at a time.
class RangeReader {
 public:
  using Consumer = std::function<void(std::span<const std::byte>)>;

  struct Options {
    /// Throws RangesUnsupported, or the refusal, rather than read from the start.
    bool partial_only = false;
    /// Asked after each call of the consumer: whether to return before the end.
    std::function<bool()> leave = {};
  };
  /// `server` must outlive this. `end` is at most `blob.size`.
  RangeReader(BlobServer& server, BlobId blob, uint64_t begin, uint64_t end, Consumer consume)
      : RangeReader(server, std::move(blob), begin, end, std::move(consume), Options{}) {}
  RangeReader(BlobServer& server, BlobId blob, uint64_t begin, uint64_t end, Consumer consume,
              Options options);

  /// Returns once every byte was consumed. DataError if the server has a blob of another size.
  void run(const std::stop_token& stop);

 private:
  void request_rest(const std::stop_token& stop);
  bool wants_part() const { return position_ > 0 || end_ < blob_.size; }
  /// Whether the same request without Range may be answered.
  bool may_read_from_start(const NetworkError& error) const;
  bool take(const HttpResponse& head, std::span<const std::byte> data);
  /// Where in the blob the body of this answer starts.
  uint64_t start_of(const HttpResponse& head) const;
  [[noreturn]] void wrong_size(const std::string& found) const;

  BlobServer& server_;
  const BlobId blob_;
  uint64_t position_;
  const uint64_t end_;
  const Consumer consume_;
  const Options options_;
  bool left_ = false;
  bool ranges_refused_ = false;
  std::optional<uint64_t> body_position_;  // in the blob, of the answer that is being read
  std::exception_ptr consumer_failure_;    // must not be mistaken for a failure of the transfer
};

}  // namespace obd::registry
