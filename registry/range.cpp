#include "registry/range.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "common/error.h"
#include "common/log.h"

namespace obd::registry {
namespace {

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct ContentRange {
  uint64_t first = 0;
  std::optional<uint64_t> total;  // "*" is none
};

/// "bytes FIRST-LAST/TOTAL"
std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  const size_t dash = text.find('-');
  const size_t slash = text.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || slash < dash) return std::nullopt;
  const auto first = parse_number(text.substr(0, dash));
  const std::string_view total = text.substr(slash + 1);
  if (!first || (total != "*" && !parse_number(total))) return std::nullopt;
  return ContentRange{*first, parse_number(total)};
}

}  // namespace

RangeReader::RangeReader(BlobServer& server, BlobId blob, uint64_t begin, uint64_t end, Consumer consume,
                         Options options)
    : server_(server),
      blob_(std::move(blob)),
      position_(begin),
      end_(end),
      consume_(std::move(consume)),
      options_(std::move(options)) {
  OBD_CHECK(begin <= end && end <= blob_.size);
}

void RangeReader::run(const std::stop_token& stop) {
  Retries retries(server_.retry_policy(), stop);
  for (;;) {
    const uint64_t before = position_;
    try {
      request_rest(stop);
      return;
    } catch (const NetworkError& error) {
      if (consumer_failure_) throw;
      if (left_ || (position_ == end_ && end_ > 0)) return;  // broken behind the last byte
      if (position_ > before) retries.made_progress();
      if (may_read_from_start(error)) {
        log::debug("blob={} from the start cause=\"{}\"", blob_.digest.brief(), error.what());
        ranges_refused_ = true;
      } else if (!retries.wait_after(error)) {
        throw;
      }
    }
  }
}

/// Servers say in many ways that they want no Range: 416, 400, 403, 405, 501.
bool RangeReader::may_read_from_start(const NetworkError& error) const {
  const int status = error.http_status();
  return wants_part() && !ranges_refused_ && !options_.partial_only && !error.retryable() && status >= 400 &&
         status != 401 && status != 404;
}

void RangeReader::request_rest(const std::stop_token& stop) {
  std::vector<Header> headers;
  if (wants_part() && !ranges_refused_) {
    headers.push_back({"Range", fmt::format("bytes={}-{}", position_, end_ - 1)});
  }
  const ResponseSink sink = [this](const HttpResponse& head, std::span<const std::byte> data) {
    return take(head, data);
  };
  body_position_.reset();
  const HttpResponse response = server_.get_blob(blob_, std::move(headers), sink, stop);
  if (consumer_failure_) std::rethrow_exception(consumer_failure_);
  if (position_ < end_ && !left_) {
    throw NetworkError(
        fmt::format("GET {}: the answer ended at byte {} of {}", response.url->redacted(), position_, end_),
        0, true);
  }
}

bool RangeReader::take(const HttpResponse& head, std::span<const std::byte> data) {
  if (!body_position_) body_position_ = start_of(head);
  if (*body_position_ < position_) {
    const uint64_t skip = std::min<uint64_t>(data.size(), position_ - *body_position_);
    *body_position_ += skip;
    data = data.subspan(skip);
  }
  if (data.size() > end_ - position_) {
    if (end_ == blob_.size) wrong_size("more");
    data = data.first(end_ - position_);
  }
  if (data.empty()) return position_ < end_;
  try {
    consume_(data);
  } catch (...) {
    consumer_failure_ = std::current_exception();
    return false;
  }
  position_ += data.size();
  *body_position_ += data.size();
  left_ = options_.leave && position_ < end_ && options_.leave();
  if (left_) return false;
  // At the end of the blob the answer ends by itself, which keeps the connection.
  return position_ < end_ || end_ == blob_.size || head.status == 206;
}

uint64_t RangeReader::start_of(const HttpResponse& head) const {
  if (head.status != 206) {
    if (options_.partial_only) {
      throw RangesUnsupported(fmt::format("{}: the server sends no parts of blobs", server_.display_name()));
    }
    const auto length = head.header("content-length");
    if (length && parse_number(*length) != blob_.size) wrong_size(length->substr(0, 20));
    return 0;
  }
  const auto range = parse_content_range(head.header("content-range").value_or(""));
  if (!range || range->first > position_) {
    throw DataError(
        fmt::format("{}: blob {}: bytes from {} on were asked for, others came (Content-Range '{}')",
                    server_.display_name(), blob_.digest.text(), position_,
                    head.header("content-range").value_or("").substr(0, 80)));
  }
  if (range->total && *range->total != blob_.size) wrong_size(std::to_string(*range->total));
  return range->first;
}

void RangeReader::wrong_size(const std::string& found) const {
  throw DataError(fmt::format("{}: blob {} has {} bytes, not {}", server_.display_name(), blob_.digest.text(),
                              found, blob_.size));
}

}  // namespace obd::registry
