#include "registry/curl_lane.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "common/c_handle.h"
#include "common/error.h"
#include "registry/callback_guard.h"
#include "registry/proxy.h"
#include "registry/text.h"
#include "registry/tls.h"

namespace obd::registry {
namespace {

using CurlEasy = CHandle<CURL, curl_easy_cleanup>;
using CurlMulti = CHandle<CURLM, curl_multi_cleanup>;
using CurlList = CHandle<curl_slist, curl_slist_free_all>;

constexpr long kReceiveBufferBytes = 256 << 10;
constexpr long kSendBufferBytes = 512 << 10;
constexpr size_t kMaxHeaderBytes = 256 << 10;
constexpr size_t kMaxErrorBodyBytes = 16 << 10;  // of answers that are not 2xx; the rest is not read
constexpr int kPollMilliseconds = 200;           // how exact the stall timeout is

void initialise_once() {
  static const CURLcode result = curl_global_init(CURL_GLOBAL_DEFAULT);
  OBD_CHECK(result == CURLE_OK);
}

template <class Value>
void set(CURL* easy, CURLoption option, Value value) {
  OBD_CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK);
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && static_cast<unsigned char>(text.front()) <= ' ') text.remove_prefix(1);
  while (!text.empty() && static_cast<unsigned char>(text.back()) <= ' ') text.remove_suffix(1);
  return text;
}

/// Ours may hold what a manifest or a server said: nothing in it may end the line.
CurlList header_list(const std::vector<Header>& headers) {
  CurlList list;
  const auto add = [&](const std::string& line) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    OBD_CHECK(longer != nullptr);
    static_cast<void>(list.release());
    list.reset(longer);
  };
  for (const Header& header : headers) {
    if (std::any_of(header.value.begin(), header.value.end(),
                    [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; })) {
      throw DataError(fmt::format("the HTTP header {} would hold a control character", header.name));
    }
    add(fmt::format("{}: {}", header.name, header.value));
  }
  return list;
}

/// What OpenSSL makes of the alerts by which a server refuses a client's certificate, or the lack of one.
bool wants_certificate(const std::string& cause) {
  return cause.find("certificate required") != std::string::npos ||
         cause.find("alert bad certificate") != std::string::npos ||
         cause.find("alert unknown ca") != std::string::npos;
}

/// One transfer; curl's callbacks point at it.
class Exchange {
 public:
  Exchange(const HttpRequest& request, const std::stop_token& stop) : request_(request), stop_(stop) {
    response_.url = request.url;
  }

  void configure(CURL* easy, const TransportOptions& options);
  /// `result` is what curl says of the transfer.
  HttpResponse finish(CURLcode result);
  /// Throws if nothing has moved for too long, or what is small still comes. curl's own limit works on an
  /// average over seconds, and counts the time that a consumer takes.
  void check_stall();
  [[noreturn]] void fail(CURLcode result) const;

 private:
  void configure_connection(CURL* easy, const TransportOptions& options);
  void configure_callbacks(CURL* easy);
  std::chrono::milliseconds stall_limit() const;
  /// `status`: of its answer to CONNECT, 0 if there is none.
  [[noreturn]] void fail_at_proxy(long status, const std::string& cause) const;

  static size_t on_header(char* data, size_t, size_t size, void* self) noexcept;
  static size_t on_body(char* data, size_t, size_t size, void* self) noexcept;
  static size_t on_read(char* buffer, size_t, size_t size, void* self) noexcept;
  static int on_seek(void* self, curl_off_t offset, int origin) noexcept;

  void take_header(std::string_view line);
  bool take_body(std::span<const std::byte> data);
  size_t give_body(std::span<std::byte> out);

  const HttpRequest& request_;
  const std::stop_token& stop_;
  CURL* easy_ = nullptr;
  std::optional<Proxy> proxy_;
  HttpResponse response_;
  CallbackGuard guard_;
  CurlList headers_;
  std::array<char, CURL_ERROR_SIZE> error_text_{};
  size_t header_bytes_ = 0;
  uint64_t sent_ = 0;       // that curl has taken from us
  curl_off_t sent_on_ = 0;  // that the connection has taken from curl
  bool enough_ = false;
  std::chrono::milliseconds stall_timeout_{};
  std::chrono::milliseconds commit_timeout_{};
  std::chrono::milliseconds answer_timeout_{};
  std::optional<std::chrono::steady_clock::time_point> answer_since_;
  bool head_ended_ = false;
  std::chrono::steady_clock::time_point moved_ = std::chrono::steady_clock::now();
};

void Exchange::configure(CURL* easy, const TransportOptions& options) {
  easy_ = easy;
  configure_connection(easy, options);
  configure_callbacks(easy);
  headers_ = header_list(request_.headers);
  set(easy, CURLOPT_HTTPHEADER, headers_.get());
  if (request_.method == "HEAD") {
    set(easy, CURLOPT_NOBODY, 1L);
  } else {
    if (request_.body) {
      set(easy, CURLOPT_UPLOAD, 1L);
      set(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request_.body->size));
    }
    set(easy, CURLOPT_CUSTOMREQUEST, request_.method.c_str());
  }
}

void Exchange::configure_connection(CURL* easy, const TransportOptions& options) {
  set(easy, CURLOPT_URL, request_.url.text().c_str());
  set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  set(easy, CURLOPT_USERAGENT, "overlaybd-convertor");
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_FOLLOWLOCATION, 0L);
  set(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  set(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(easy, CURLOPT_BUFFERSIZE, kReceiveBufferBytes);
  set(easy, CURLOPT_UPLOAD_BUFFERSIZE, kSendBufferBytes);
  set(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
  stall_timeout_ = request_.stall_timeout.value_or(options.stall_timeout);
  commit_timeout_ = options.commit_timeout;
  answer_timeout_ = options.answer_timeout;
  if (request_.deadline) set(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request_.deadline->count()));
  proxy_ = proxy_for(request_.url);
  set(easy, CURLOPT_PROXY, proxy_ ? proxy_->url.c_str() : "");
  set(easy, CURLOPT_NOPROXY, "");  // that was looked at
  if (options.tls) options.tls->configure(easy);
  // The curl program obeys these two; the library leaves them to us.
  if (const char* file = std::getenv("SSL_CERT_FILE"); file && *file) set(easy, CURLOPT_CAINFO, file);
  if (const char* directory = std::getenv("SSL_CERT_DIR"); directory && *directory) {
    set(easy, CURLOPT_CAPATH, directory);
  }
}

void Exchange::configure_callbacks(CURL* easy) {
  set(easy, CURLOPT_ERRORBUFFER, error_text_.data());
  set(easy, CURLOPT_HEADERFUNCTION, &Exchange::on_header);
  set(easy, CURLOPT_HEADERDATA, this);
  set(easy, CURLOPT_WRITEFUNCTION, &Exchange::on_body);
  set(easy, CURLOPT_WRITEDATA, this);
  set(easy, CURLOPT_READFUNCTION, &Exchange::on_read);
  set(easy, CURLOPT_READDATA, this);
  set(easy, CURLOPT_SEEKFUNCTION, &Exchange::on_seek);
  set(easy, CURLOPT_SEEKDATA, this);
}

size_t Exchange::on_header(char* data, size_t, size_t size, void* self) noexcept {
  auto& exchange = *static_cast<Exchange*>(self);
  return exchange.guard_.run(size_t{0}, [&] {
    exchange.take_header({data, size});
    exchange.moved_ = std::chrono::steady_clock::now();
    return size;
  });
}

size_t Exchange::on_body(char* data, size_t, size_t size, void* self) noexcept {
  auto& exchange = *static_cast<Exchange*>(self);
  return exchange.guard_.run(size_t{0}, [&] {
    if (exchange.stop_.stop_requested()) throw Cancelled();
    exchange.enough_ = !exchange.take_body(std::as_bytes(std::span(data, size)));
    exchange.moved_ = std::chrono::steady_clock::now();
    return exchange.enough_ ? size_t{0} : size;
  });
}

size_t Exchange::on_read(char* buffer, size_t, size_t size, void* self) noexcept {
  auto& exchange = *static_cast<Exchange*>(self);
  return exchange.guard_.run(size_t{CURL_READFUNC_ABORT}, [&] {
    if (exchange.stop_.stop_requested()) throw Cancelled();
    const size_t given = exchange.give_body(std::as_writable_bytes(std::span(buffer, size)));
    exchange.moved_ = std::chrono::steady_clock::now();
    return given;
  });
}

int Exchange::on_seek(void* self, curl_off_t offset, int origin) noexcept {
  if (origin != SEEK_SET || offset < 0) return CURL_SEEKFUNC_CANTSEEK;
  static_cast<Exchange*>(self)->sent_ = static_cast<uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

void Exchange::take_header(std::string_view line) {
  header_bytes_ += line.size();
  if (header_bytes_ > kMaxHeaderBytes) {
    throw DataError(fmt::format("{} {}: more than {} bytes of headers", request_.method,
                                request_.url.redacted(), kMaxHeaderBytes));
  }
  if (line.starts_with("HTTP/")) {  // again after an interim answer
    response_.headers.clear();
    response_.status = 0;
    answer_since_ = std::chrono::steady_clock::now();
    head_ended_ = false;
    const size_t space = std::min(line.find(' '), line.size() - 1);
    std::from_chars(line.data() + space + 1, line.data() + line.size(), response_.status);
    return;
  }
  head_ended_ = trim(line).empty();
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  response_.headers.push_back({lower_case(line.substr(0, colon)), std::string(trim(line.substr(colon + 1)))});
}

bool Exchange::take_body(std::span<const std::byte> data) {
  if (response_.ok() && request_.sink) return request_.sink(response_, data);
  const uint64_t cap = response_.ok() ? request_.max_body_bytes : kMaxErrorBodyBytes;
  const size_t take = std::min<uint64_t>(data.size(), cap - response_.body.size());
  response_.body.append(reinterpret_cast<const char*>(data.data()), take);
  if (take == data.size()) return true;
  if (response_.ok()) {
    throw DataError(fmt::format("{} {}: the answer is larger than {} bytes", request_.method,
                                request_.url.redacted(), cap));
  }
  return false;
}

size_t Exchange::give_body(std::span<std::byte> out) {
  if (!request_.body) return 0;
  const size_t give = std::min<uint64_t>(out.size(), request_.body->size - sent_);
  if (give > 0) request_.body->read_at(sent_, out.first(give));
  sent_ += give;
  return give;
}

void Exchange::check_stall() {
  const auto now = std::chrono::steady_clock::now();
  curl_off_t sent_on = 0;
  curl_easy_getinfo(easy_, CURLINFO_SIZE_UPLOAD_T, &sent_on);
  if (std::exchange(sent_on_, sent_on) != sent_on) moved_ = now;
  const bool may_take_long = response_.status < 200 || (head_ended_ && response_.ok() && request_.sink);
  if (!may_take_long && now - *answer_since_ >= answer_timeout_) {
    throw TransportError(fmt::format("{} {}: the answer was not complete after {} s", request_.method,
                                     request_.url.redacted(), answer_timeout_.count() / 1000),
                         TransportError::Kind::kStalled, true);
  }
  if (now - moved_ < stall_limit()) return;
  throw TransportError(fmt::format("{} {}: no byte moved for {} ms", request_.method, request_.url.redacted(),
                                   stall_limit().count()),
                       TransportError::Kind::kStalled, true);
}

/// A proxy that keeps an upload to itself first has all of it still to send on before the registry can
/// answer.
std::chrono::milliseconds Exchange::stall_limit() const {
  const bool answers = response_.status >= 200;
  const bool all_sent =
      request_.body && request_.body->size > 0 && static_cast<uint64_t>(sent_on_) >= request_.body->size;
  return all_sent && !answers ? std::max(stall_timeout_, commit_timeout_) : stall_timeout_;
}

HttpResponse Exchange::finish(CURLcode result) {
  guard_.rethrow();
  if (result != CURLE_OK && !enough_) fail(result);
  return std::move(response_);
}

void Exchange::fail_at_proxy(long status, const std::string& cause) const {
  using Kind = TransportError::Kind;
  const auto error = [&](std::string_view what, Kind kind, bool retryable, std::string_view hint = "") {
    return TransportError(
        fmt::format("{} {}: the proxy {} ({}) {}: {}{}", request_.method, request_.url.redacted(),
                    proxy_->host, proxy_->variable, what, cause, hint),
        kind, retryable);
  };
  if (status == 407) {
    throw error("refused to connect us", Kind::kOther, false,
                proxy_->has_login
                    ? fmt::format("; it does not accept the login in {}", proxy_->variable)
                    : fmt::format("; it wants a login: {}=http://USER:PASSWORD@HOST:PORT", proxy_->variable));
  }
  if (status == 429 || status >= 500) throw error("could not connect us", Kind::kConnect, true);
  if (status != 0) {
    throw error("refused to connect us", Kind::kOther, false,
                "; ask who runs it to allow that host and port, or name the host in NO_PROXY if it can be "
                "reached without");
  }
  throw error("could not be reached, or could not connect us", Kind::kConnect, true);
}

void Exchange::fail(CURLcode result) const {
  using Kind = TransportError::Kind;
  const std::string cause = error_text_[0] != '\0' ? error_text_.data() : curl_easy_strerror(result);
  if (proxy_) {
    long status = 0;
    curl_easy_getinfo(easy_, CURLINFO_HTTP_CONNECTCODE, &status);
    const bool at_proxy = result == CURLE_COULDNT_RESOLVE_PROXY || result == CURLE_COULDNT_CONNECT ||
                          result == CURLE_PROXY || status >= 300;
    if (at_proxy) fail_at_proxy(status, cause);
  }
  const std::string by =
      proxy_ ? fmt::format(" (through the proxy {}, {})", proxy_->host, proxy_->variable) : "";
  const auto error = [&](std::string_view what, Kind kind, bool retryable, std::string_view hint = "") {
    return TransportError(
        fmt::format("{} {}: {}: {}{}{}", request_.method, request_.url.redacted(), what, cause, by, hint),
        kind, retryable);
  };
  switch (result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
      throw error("could not connect", Kind::kConnect, true);
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CLIENTCERT:
      throw error("it does not accept our certificate", Kind::kCertificate, false);
    case CURLE_SSL_CONNECT_ERROR: {
      if (wants_certificate(cause)) {
        throw error("it wants a certificate from us that it accepts", Kind::kCertificate, false);
      }
      const bool not_tls = cause.find("wrong version number") != std::string::npos;
      throw error("no TLS connection", Kind::kTls, !not_tls,
                  not_tls ? "; does this registry speak plain HTTP?" : "");
    }
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      throw error("its certificate is not trusted", Kind::kCertificate, false,
                  "; add the authority that signed it to the root CAs, or name it by SSL_CERT_FILE");
    case CURLE_OPERATION_TIMEDOUT:
      throw error("it took too long", Kind::kStalled, true);
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
      // TLS 1.3 says so when the connection stands already.
      if (wants_certificate(cause)) {
        throw error("it wants a certificate from us that it accepts", Kind::kCertificate, false);
      }
      [[fallthrough]];
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      throw error("the connection broke", Kind::kBroken, true);
    case CURLE_UNSUPPORTED_PROTOCOL:  // bytes without a status line, which curl takes for HTTP/0.9
    case CURLE_WEIRD_SERVER_REPLY: {
      // On a connection that was used before, it may be the rest of what came there.
      long connects = 0;
      curl_easy_getinfo(easy_, CURLINFO_NUM_CONNECTS, &connects);
      throw error("its answer is not HTTP", Kind::kOther, connects == 0);
    }
    default:
      throw error("failed", Kind::kOther, false);
  }
}

}  // namespace

struct CurlLane::Handles {
  CurlMulti multi;  // keeps the connections; outlives easy
  CurlEasy easy;
};

CurlLane::CurlLane() : handles_(std::make_unique<Handles>()) {
  initialise_once();
  handles_->multi.reset(curl_multi_init());
  handles_->easy.reset(curl_easy_init());
  OBD_CHECK(handles_->multi && handles_->easy);
}

CurlLane::~CurlLane() = default;

HttpResponse CurlLane::run(const HttpRequest& request, const TransportOptions& options,
                           const std::stop_token& stop) {
  CURLM* const multi = handles_->multi.get();
  CURL* const easy = handles_->easy.get();
  curl_easy_reset(easy);
  Exchange exchange(request, stop);
  exchange.configure(easy, options);
  OBD_CHECK(curl_multi_add_handle(multi, easy) == CURLM_OK);
  const auto remove = [multi](CURL* handle) { curl_multi_remove_handle(multi, handle); };
  const std::unique_ptr<CURL, decltype(remove)> added(easy, remove);
  const std::stop_callback wake(stop, [multi] { curl_multi_wakeup(multi); });
  for (;;) {
    if (stop.stop_requested()) {
      set(easy, CURLOPT_QUICK_EXIT, 1L);  // do not wait for a name server
      throw Cancelled();
    }
    int running = 0;
    OBD_CHECK(curl_multi_perform(multi, &running) == CURLM_OK);
    int left = 0;
    if (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
      return exchange.finish(message->data.result);
    }
    OBD_CHECK(running > 0);
    exchange.check_stall();
    OBD_CHECK(curl_multi_poll(multi, nullptr, 0, kPollMilliseconds, nullptr) == CURLM_OK);
  }
}

}  // namespace obd::registry
