#pragma once

#include <chrono>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace obd::test {

/// What a registry was asked, as it arrived.
struct RecordedRequest {
  std::string method;
  std::string path;
  std::string query;
  std::map<std::string, std::string> headers =
      {};  // names in lower case; the last value if there are several
  uint64_t body_bytes = 0;
  std::string body = {};  // of small requests

  /// Empty if there is no such header.
  std::string header(const std::string& name) const;
};

/// What a registry does instead of its duty.
struct Fault {
  enum class Kind {
    kStatus,      // answers `status` with `headers` and `body`
    kShortBody,   // does its duty, but breaks the connection after `bytes` of the body
    kStall,       // does its duty, but stops moving after `bytes` of the body, until the registry is gone
    kCorrupt,     // does its duty, but with one bit of the body changed
    kNoRange,     // does its duty, as if it had never heard of Range
    kAfterwards,  // does its duty, then answers `status`: the good answer is lost
    kPartial,     // keeps `bytes` of what was uploaded, then answers `status`
    kReset,       // breaks the connection instead of an answer
    kSilent,      // does not answer at all, until the registry is gone
    kResetAfter,  // does its duty, then breaks the connection instead of the answer
    kHeaders,     // does its duty, but answers with `headers` replaced; those with an empty value are missing
    kChunked,     // does its duty, but does not say how long the body is
    kHuge,        // does its duty, with a body that is longer by `bytes`
    kForget,      // answers as if it had done its duty, but keeps no manifest
  };
  Kind kind = Kind::kStatus;
  int status = 500;
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string body = {};
  uint64_t bytes = 0;
};

/// An HTTP registry in this process, on a port of 127.0.0.1 that the system chose. Keeps what is pushed,
/// remembers what it was asked, and misbehaves when told to.
///
/// Threads: any.
class FakeRegistry {
 public:
  struct Options {
    /// The Authorization header that is asked for with Basic.
    std::string authorization = {};
    /// Asks for tokens from this realm; those that grant() names are accepted.
    std::string token_realm = {};
    /// Locations of uploads are relative to the host, and have a query.
    bool relative_locations = true;
    /// Mounts blobs.
    bool mounts = true;
    /// Each repository has manifests and blobs of its own; else all of them share theirs.
    bool separate_repositories = false;
    /// Takes uploads in pieces.
    bool pieces = true;
    /// Refuses manifests that name blobs or manifests which are not here.
    bool checks_manifests = false;
    /// Keeps lists of referrers itself, handed out so many at a time; 0: knows nothing of them.
    size_t referrers_page = 0;
    /// What requests for parts of blobs are answered with; 0: with the part.
    int range_refusal = 0;
    /// Bodies beyond this are answered with 413; `min_chunk_bytes` is what OCI-Chunk-Min-Length says.
    uint64_t max_body_bytes = std::numeric_limits<uint64_t>::max();
    uint64_t min_chunk_bytes = 0;
  };
  FakeRegistry() : FakeRegistry(Options{}) {}
  explicit FakeRegistry(Options options);
  ~FakeRegistry();
  FakeRegistry(const FakeRegistry&) = delete;
  FakeRegistry& operator=(const FakeRegistry&) = delete;

  /// "127.0.0.1:PORT"
  std::string authority() const;

  /// The next `times` requests whose method is `method` (any if empty) and whose path contains `path` go
  /// wrong.
  void inject(std::string method, std::string path, Fault fault, int times = 1);
  /// Request number `index`, counted from 0, goes wrong whatever it is.
  void fail_request(size_t index, Fault fault);
  /// No request that comes now goes wrong any more.
  void forget_faults();
  /// Called with each request before it is handled; must not call this registry's methods other than
  /// put_...().
  void on_request(std::function<void(const RecordedRequest&)> hook);
  /// Requests for a path that contains `path` are sent to `url` with 307.
  void redirect(std::string method, std::string path, std::string url);
  /// Answers GET and POST of `path` with this function's result, without asking for a login.
  void serve(std::string path, std::function<std::string(const RecordedRequest&)> answer);
  /// Accepts this bearer token from now on, and no other.
  void grant(std::string token);

  /// `repository` counts only where each has its own.
  void put_blob(const std::string& digest, std::string content, const std::string& repository = {});
  void remove_blob(const std::string& digest, const std::string& repository = {});
  std::optional<std::string> blob(const std::string& digest, const std::string& repository = {}) const;
  void put_manifest(const std::string& reference, std::string media_type, std::string content,
                    const std::string& repository = {});
  std::optional<std::string> manifest(const std::string& reference, const std::string& repository = {}) const;
  size_t open_uploads() const;

  std::vector<RecordedRequest> requests() const;
  /// Those with that method whose path contains `path`.
  std::vector<RecordedRequest> requests(const std::string& method, const std::string& path) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace obd::test
