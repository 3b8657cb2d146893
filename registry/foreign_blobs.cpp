#include "registry/foreign_blobs.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"
#include "common/log.h"
#include "registry/async_hash.h"
#include "registry/http_error.h"
#include "registry/local_blob.h"
#include "registry/range.h"
#include "registry/tls.h"

namespace obd::registry {
namespace {

/// One URL of one blob.
class ForeignServer final : public BlobServer {
 public:
  ForeignServer(Transport& transport, Url url, const RetryPolicy& retry)
      : transport_(transport), url_(std::move(url)), retry_(retry) {}

  std::string display_name() const override { return url_.redacted(); }
  const RetryPolicy& retry_policy() const override { return retry_; }

  HttpResponse get_blob(const BlobId& /*blob*/, std::vector<Header> headers, ResponseSink sink,
                        const std::stop_token& stop) override {
    HttpRequest request{.method = "GET", .url = url_};
    request.headers = std::move(headers);
    request.sink = std::move(sink);
    HttpResponse response = exchange_following(transport_, std::move(request), stop);
    log::debug("GET {} status={}", response.url->redacted(), response.status);
    if (response.ok()) return response;
    // Its words may repeat the URL with the signature in it, or be those of a host that the image's maker
    // cannot ask.
    throw_status(response,
                 {.method = "GET", .repository = {}, .foreign = true, .scrub = [](const std::string&) {
                    return std::string();
                  }});
  }

 private:
  Transport& transport_;
  const Url url_;
  const RetryPolicy& retry_;
};

}  // namespace

ForeignBlobs::ForeignBlobs(const RepositoryOptions& options)
    : retry_(options.retry),
      work_directory_(options.work_directory),
      spool_memory_bytes_(options.spool_memory_bytes),
      transport_(std::make_unique<Transport>(TransportOptions{.tls = TlsContext::load_trust(options.tls)})) {}

ForeignBlobs::~ForeignBlobs() = default;

void ForeignBlobs::pull(const BlobId& blob, const std::vector<std::string>& urls, const BlobConsumer& consume,
                        std::stop_token stop) {
  const std::unique_ptr<Spool> spool = fetch_any(blob, urls, stop);
  pull_from(*spool, blob, consume, stop, spool->name());
}

std::unique_ptr<Spool> ForeignBlobs::fetch_any(const BlobId& blob, const std::vector<std::string>& urls,
                                               const std::stop_token& stop) {
  std::string failures;
  bool only_wrong_content = true;
  for (size_t i = 0; i < urls.size(); ++i) {
    const auto note = [&](const Error& error) {
      const std::string failure = fmt::format("URL {} of {}: {}", i + 1, urls.size(), error.what());
      log::info("foreign layer={} {}", blob.digest.brief(), failure);
      failures += "; " + failure;
    };
    try {
      return fetch(blob, urls[i], stop);
    } catch (const NetworkError& error) {
      only_wrong_content = false;
      note(error);
    } catch (const DataError& error) {
      note(error);
    }
  }
  const std::string message =
      fmt::format("foreign layer {}: {}", blob.digest.text(),
                  urls.empty() ? "the repository does not have it, and the image names no URL for it"
                               : "nobody has it" + failures);
  if (only_wrong_content) throw DataError(message);
  throw NetworkError(message);
}

std::unique_ptr<Spool> ForeignBlobs::fetch(const BlobId& blob, const std::string& url,
                                           const std::stop_token& stop) {
  ForeignServer server(*transport_, Url::parse(url), retry_);
  auto spool = std::make_unique<Spool>(
      Spool::Options{.directory = work_directory_, .memory_limit = spool_memory_bytes_});
  AsyncSha256 hash;
  const auto take = [&](std::span<const std::byte> data) {
    hash.update(data);
    spool->append(data);
  };
  RangeReader(server, blob, 0, blob.size, take).run(stop);
  const Digest found = hash.finish();
  if (found == blob.digest) return spool;
  throw DataError(fmt::format("{}: its content has the digest {}", server.display_name(), found.text()));
}

std::string hosts_of(const std::vector<std::string>& urls) {
  std::vector<std::string> hosts;
  for (const std::string& text : urls) {
    try {
      const std::string host = quote_line(Url::parse(text).host());
      if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
    } catch (const NetworkError&) {  // nobody is asked there
    }
  }
  return fmt::format("{}", fmt::join(hosts, ", "));
}

}  // namespace obd::registry
