#include "registry/transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "registry/curl_lane.h"

namespace obd::registry {
namespace {

constexpr size_t kMaxIdleLanes = 8;
constexpr int kMaxRedirects = 10;

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

void drop_header(std::vector<Header>& headers, std::string_view name) {
  std::erase_if(headers, [&](const Header& header) { return header.name == name; });
}

/// The request that a redirect asks for.
void redirect(HttpRequest& request, const HttpResponse& response) {
  const auto target = response.location();
  if (!target) {
    throw NetworkError(fmt::format("{} {}: status {} without a Location", request.method,
                                   request.url.redacted(), response.status),
                       response.status);
  }
  if (target->origin() != request.url.origin()) drop_header(request.headers, "Authorization");
  if (response.status == 303 && request.method != "HEAD") {
    request.method = "GET";
    request.body.reset();
  }
  request.url = *target;
}

}  // namespace

std::optional<std::string> HttpResponse::header(std::string_view name) const {
  const auto found =
      std::find_if(headers.begin(), headers.end(), [&](const Header& header) { return header.name == name; });
  return found == headers.end() ? std::nullopt : std::optional(found->value);
}

std::optional<Url> HttpResponse::location() const {
  const auto text = header("location");
  if (!text) return std::nullopt;
  try {
    Url target = url->resolve(*text);
    if (!url->is_https() || target.is_https()) return target;
    throw NetworkError(
        fmt::format("it leads from https to http ({}); is there a proxy before the registry that "
                    "does not tell it so (X-Forwarded-Proto)?",
                    target.redacted()));
  } catch (NetworkError& error) {
    error.add_context(fmt::format("{}: the Location of its answer, status {}", url->redacted(), status));
    throw;
  }
}

std::optional<Url> HttpResponse::next_page() const {
  for (const Header& link : headers) {
    if (link.name != "link") continue;
    const size_t open = link.value.find('<');
    const size_t close = link.value.find('>', open);
    if (open == std::string::npos || close == std::string::npos) continue;
    const std::string_view parameters = std::string_view(link.value).substr(close);
    if (parameters.find("rel=\"next\"") == std::string_view::npos &&
        parameters.find("rel=next") == std::string_view::npos) {
      continue;
    }
    Url next = url->resolve(link.value.substr(open + 1, close - open - 1));
    if (next.origin() == url->origin()) return next;
    throw NetworkError(
        fmt::format("{}: its next page is at another host ({})", url->redacted(), next.redacted()));
  }
  return std::nullopt;
}

RequestBody body_of(std::string_view bytes) {
  return {.size = bytes.size(), .read_at = [bytes](uint64_t offset, std::span<std::byte> out) {
            std::copy_n(std::as_bytes(std::span(bytes)).begin() + static_cast<ptrdiff_t>(offset), out.size(),
                        out.begin());
          }};
}

class Transport::Pool {
 public:
  std::unique_ptr<CurlLane> take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<CurlLane>();
    auto lane = std::move(idle_.back());  // the last one used has the warmest connection
    idle_.pop_back();
    return lane;
  }
  void give_back(std::unique_ptr<CurlLane> lane) {
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kMaxIdleLanes) idle_.push_back(std::move(lane));
  }

 private:
  std::mutex mutex_;  // guards idle_
  std::vector<std::unique_ptr<CurlLane>> idle_;
};

Transport::Transport(TransportOptions options) : options_(options), pool_(std::make_unique<Pool>()) {}
Transport::~Transport() = default;

HttpResponse Transport::exchange(const HttpRequest& request, const std::stop_token& stop) {
  if (stop.stop_requested()) throw Cancelled();
  std::unique_ptr<CurlLane> lane = pool_->take();
  HttpResponse response = lane->run(request, options_, stop);
  pool_->give_back(std::move(lane));  // not after a failure: its connection may be in any state
  return response;
}

HttpResponse exchange_following(Transport& transport, HttpRequest request, const std::stop_token& stop) {
  for (int redirects = 0; redirects <= kMaxRedirects; ++redirects) {
    HttpResponse response = transport.exchange(request, stop);
    // 301 and 302 may turn a request with a body into GET; nobody means that here.
    const bool follow =
        is_redirect(response.status) && (!request.body || response.status == 307 || response.status == 308);
    if (!follow) return response;
    redirect(request, response);
  }
  throw NetworkError(
      fmt::format("{} {}: more than {} redirects", request.method, request.url.redacted(), kMaxRedirects));
}

}  // namespace obd::registry
