#include "tests/support/fake_registry.h"

#include <fmt/format.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <thread>
#include <utility>

#include "common/digest.h"

namespace obd::test {
namespace {

constexpr size_t kThreads = 32;
constexpr size_t kMaxRecordedBody = 64 << 10;

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

RecordedRequest record(const httplib::Request& request) {
  RecordedRequest recorded{
      .method = request.method, .path = request.path, .query = {}, .body_bytes = request.body.size()};
  if (request.body.size() <= kMaxRecordedBody) recorded.body = request.body;
  const size_t query = request.target.find('?');
  if (query != std::string::npos) recorded.query = request.target.substr(query + 1);
  for (const auto& [name, value] : request.headers) recorded.headers[lower_case(name)] = value;
  return recorded;
}

std::string error_body(const std::string& code, const std::string& message) {
  return fmt::format(R"({{"errors":[{{"code":"{}","message":"{}"}}]}})", code, message);
}

void answer_error(httplib::Response& response, int status, const std::string& code) {
  response.status = status;
  response.set_content(error_body(code, "said the fake"), "application/json");
}

struct StoredManifest {
  std::string media_type;
  std::string content;
};

std::string etag_of(const StoredManifest& manifest) {
  return fmt::format("\"{}\"", Digest::of(manifest.content).text());
}

std::optional<std::string> subject_of(const std::string& manifest) {
  const size_t subject = manifest.find("\"subject\"");
  const size_t digest = manifest.find("sha256:", subject);
  if (subject == std::string::npos || digest == std::string::npos) return std::nullopt;
  return manifest.substr(digest, 71);
}

struct InjectedFault {
  std::string method;
  std::string path;
  Fault fault;
  int times = 1;
};

struct Redirect {
  std::string method;
  std::string path;
  std::string url;
};

bool matches(const std::string& method, const std::string& path, const RecordedRequest& request) {
  return (method.empty() || method == request.method) && request.path.find(path) != std::string::npos;
}

int port_of(const sockaddr_in& address) {
  return ntohs(address.sin_port);
}

/// Breaks the connection on which `remote_port` asked `local_port`: the library has no such call.
void reset_connection(int local_port, int remote_port) {
  for (int fd = 3; fd < 4096; ++fd) {
    sockaddr_in local{};
    sockaddr_in remote{};
    socklen_t local_size = sizeof local;
    socklen_t remote_size = sizeof remote;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_size) != 0 ||
        local.sin_family != AF_INET)
      continue;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&remote), &remote_size) != 0) continue;
    if (port_of(local) != local_port || port_of(remote) != remote_port) continue;
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    ::shutdown(fd, SHUT_RDWR);
    return;
  }
}

/// "/v2/NAME/KIND/REST" for the kinds of the distribution specification.
std::optional<std::string> rest_after(const std::string& path, const std::string& kind) {
  const size_t at = path.rfind(kind);
  if (!path.starts_with("/v2/") || at == std::string::npos) return std::nullopt;
  return path.substr(at + kind.size());
}

}  // namespace

std::string RecordedRequest::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

struct FakeRegistry::State {
  explicit State(Options the_options) : options(std::move(the_options)) {}

  void handle(const httplib::Request& request, httplib::Response& response);
  std::optional<Fault> take_fault(const RecordedRequest& request);
  void answer(const httplib::Request& request, const RecordedRequest& recorded, httplib::Response& response,
              const std::optional<Fault>& fault);
  void handle_referrers(const std::string& subject, const RecordedRequest& recorded,
                        httplib::Response& response);
  bool may_enter(const RecordedRequest& request, httplib::Response& response);
  void do_duty(const httplib::Request& request, const RecordedRequest& recorded, httplib::Response& response,
               const std::optional<Fault>& fault);
  void handle_blob(const std::string& digest, const RecordedRequest& recorded, httplib::Response& response,
                   bool ranges);
  void handle_manifest(const std::string& reference, const httplib::Request& request,
                       httplib::Response& response, bool forget);
  bool has_all_blobs(const std::string& manifest) const;
  void handle_upload(const std::string& id, const httplib::Request& request, httplib::Response& response,
                     const std::optional<Fault>& fault);
  void answer_upload(const std::string& id, const std::string& path, int status, httplib::Response& response);
  void spoil_body(const Fault& fault, httplib::Response& response);

  const Options options;
  httplib::Server server;
  int port = 0;
  std::jthread thread;

  mutable std::mutex mutex;  // guards all below
  std::condition_variable_any gone;
  bool stopping = false;
  std::map<std::string, std::string> blobs;
  std::map<std::string, StoredManifest> manifests;
  std::map<std::string, std::string> uploads;
  int next_upload = 1;
  std::string token;
  std::vector<InjectedFault> faults;
  std::map<size_t, Fault> faults_by_index;
  std::function<void(const RecordedRequest&)> hook;
  std::vector<Redirect> redirects;
  std::map<std::string, std::function<std::string(const RecordedRequest&)>> served;
  std::vector<RecordedRequest> recorded_requests;
};

void FakeRegistry::State::handle(const httplib::Request& request, httplib::Response& response) {
  const_cast<httplib::Request&>(request).ranges.clear();  // the library would cut our answers by itself
  const RecordedRequest recorded = record(request);
  if (hook) hook(recorded);
  std::unique_lock lock(mutex);
  recorded_requests.push_back(recorded);
  const auto fault = take_fault(recorded);
  const auto is = [&](Fault::Kind kind) { return fault && fault->kind == kind; };
  if (is(Fault::Kind::kSilent)) gone.wait(lock, [this] { return stopping; });
  const bool mute = is(Fault::Kind::kSilent) || is(Fault::Kind::kReset);
  if (!mute) answer(request, recorded, response, fault);
  if (mute || is(Fault::Kind::kResetAfter)) reset_connection(port, request.remote_port);
}

void FakeRegistry::State::answer(const httplib::Request& request, const RecordedRequest& recorded,
                                 httplib::Response& response, const std::optional<Fault>& fault) {
  if (fault && fault->kind == Fault::Kind::kStatus) {
    response.status = fault->status;
    for (const auto& [name, value] : fault->headers) response.set_header(name, value);
    response.set_content(fault->body, "application/json");
    return;
  }
  if (const auto found = served.find(recorded.path); found != served.end()) {
    response.status = 200;
    return response.set_content(found->second(recorded), "application/json");
  }
  if (!may_enter(recorded, response)) return;
  for (const Redirect& redirect : redirects) {
    if (!matches(redirect.method, redirect.path, recorded)) continue;
    response.status = 307;
    return response.set_header("Location", redirect.url);
  }
  do_duty(request, recorded, response, fault);
  if (fault && fault->kind == Fault::Kind::kAfterwards) answer_error(response, fault->status, "UNKNOWN");
  if (fault) spoil_body(*fault, response);
}

std::optional<Fault> FakeRegistry::State::take_fault(const RecordedRequest& request) {
  if (const auto found = faults_by_index.find(recorded_requests.size() - 1); found != faults_by_index.end()) {
    return found->second;
  }
  for (InjectedFault& injected : faults) {
    if (injected.times == 0 || !matches(injected.method, injected.path, request)) continue;
    --injected.times;
    return injected.fault;
  }
  return std::nullopt;
}

bool FakeRegistry::State::may_enter(const RecordedRequest& request, httplib::Response& response) {
  std::string expected;
  std::string challenge;
  if (!options.authorization.empty()) {
    expected = options.authorization;
    challenge = "Basic realm=\"fake\"";
  } else if (!options.token_realm.empty()) {
    expected = "Bearer " + token;
    challenge =
        fmt::format("Bearer realm=\"{}\",service=\"fake\",scope=\"repository:x:pull\"", options.token_realm);
  } else {
    return true;
  }
  if (request.header("authorization") == expected) return true;
  answer_error(response, 401, "UNAUTHORIZED");
  response.set_header("WWW-Authenticate", challenge);
  return false;
}

void FakeRegistry::State::do_duty(const httplib::Request& request, const RecordedRequest& recorded,
                                  httplib::Response& response, const std::optional<Fault>& fault) {
  if (request.body.size() > options.max_body_bytes) {
    answer_error(response, 413, "SIZE_INVALID");
  } else if (const auto subject = rest_after(request.path, "/referrers/")) {
    handle_referrers(*subject, recorded, response);
  } else if (const auto upload = rest_after(request.path, "/blobs/uploads/")) {
    handle_upload(*upload, request, response, fault);
  } else if (const auto digest = rest_after(request.path, "/blobs/")) {
    handle_blob(*digest, recorded, response, !fault || fault->kind != Fault::Kind::kNoRange);
  } else if (const auto reference = rest_after(request.path, "/manifests/")) {
    handle_manifest(*reference, request, response, fault && fault->kind == Fault::Kind::kForget);
  } else {
    answer_error(response, request.path == "/v2/" ? 200 : 404, "UNKNOWN");
  }
}

void FakeRegistry::State::handle_blob(const std::string& digest, const RecordedRequest& recorded,
                                      httplib::Response& response, bool ranges) {
  const auto found = blobs.find(digest);
  if (found == blobs.end()) return answer_error(response, 404, "BLOB_UNKNOWN");
  std::string content = found->second;
  response.status = 200;
  uint64_t first = 0;
  uint64_t last = 0;
  const std::string range = recorded.header("range");
  if (ranges && std::sscanf(range.c_str(), "bytes=%lu-%lu", &first, &last) == 2 && first < content.size()) {
    last = std::min<uint64_t>(last, content.size() - 1);
    response.status = 206;
    response.set_header("Content-Range", fmt::format("bytes {}-{}/{}", first, last, content.size()));
    content = content.substr(first, last - first + 1);
  }
  response.set_content(content, "application/octet-stream");
}

void FakeRegistry::State::handle_manifest(const std::string& reference, const httplib::Request& request,
                                          httplib::Response& response, bool forget) {
  if (request.method == "PUT") {
    const StoredManifest stored{request.get_header_value("Content-Type"), request.body};
    const std::string digest = Digest::of(request.body).text();
    const std::string expected = request.get_header_value("If-Match");
    if (!expected.empty() && (!manifests.contains(reference) || expected != etag_of(manifests[reference]))) {
      return answer_error(response, 412, "MANIFEST_INVALID");
    }
    if (options.checks_manifests && !has_all_blobs(request.body)) {
      return answer_error(response, 400, "MANIFEST_BLOB_UNKNOWN");
    }
    if (!forget) manifests[reference] = manifests[digest] = stored;
    response.status = 201;
    const auto subject = subject_of(request.body);
    if (options.referrers_page > 0 && subject) response.set_header("OCI-Subject", *subject);
    return response.set_header("Docker-Content-Digest", digest);
  }
  const auto found = manifests.find(reference);
  if (found == manifests.end()) return answer_error(response, 404, "MANIFEST_UNKNOWN");
  response.status = 200;
  response.set_header("Docker-Content-Digest", Digest::of(found->second.content).text());
  if (reference.starts_with("sha256-")) response.set_header("ETag", etag_of(found->second));
  response.set_content(found->second.content, found->second.media_type.c_str());
}

bool FakeRegistry::State::has_all_blobs(const std::string& manifest) const {
  for (size_t at = manifest.find("sha256:"); at != std::string::npos; at = manifest.find("sha256:", at + 1)) {
    if (!blobs.contains(manifest.substr(at, 71))) return false;
  }
  return true;
}

void FakeRegistry::State::handle_referrers(const std::string& subject, const RecordedRequest& recorded,
                                           httplib::Response& response) {
  if (options.referrers_page == 0) return answer_error(response, 404, "UNSUPPORTED");
  size_t skip = 0;
  std::sscanf(recorded.query.c_str(), "skip=%zu", &skip);
  std::string entries;
  size_t count = 0;
  for (const auto& [reference, stored] : manifests) {
    if (!Digest::is_valid(reference) || subject_of(stored.content) != subject) continue;
    if (count++ < skip || count > skip + options.referrers_page) continue;
    entries += fmt::format(R"({}{{"mediaType":"{}","digest":"{}","size":{}}})", entries.empty() ? "" : ",",
                           stored.media_type, reference, stored.content.size());
  }
  response.status = 200;
  if (count > skip + options.referrers_page) {
    response.set_header(
        "Link", fmt::format("<{}?skip={}>; rel=\"next\"", recorded.path, skip + options.referrers_page));
  }
  response.set_content(fmt::format(R"({{"schemaVersion":2,"manifests":[{}]}})", entries),
                       "application/vnd.oci.image.index.v1+json");
}

void FakeRegistry::State::answer_upload(const std::string& id, const std::string& path, int status,
                                        httplib::Response& response) {
  const std::string base = path.substr(0, path.rfind("/uploads/") + std::string("/uploads/").size());
  const std::string host = options.relative_locations ? "" : fmt::format("http://127.0.0.1:{}", port);
  response.status = status;
  response.set_header("Location", fmt::format("{}{}{}?_state=s3cret-state", host, base, id));
  const size_t size = uploads[id].size();
  response.set_header("Range", fmt::format("0-{}", size == 0 ? 0 : size - 1));
}

void FakeRegistry::State::handle_upload(const std::string& id, const httplib::Request& request,
                                        httplib::Response& response, const std::optional<Fault>& fault) {
  if (request.method == "POST") {
    const std::string mounted = request.get_param_value("mount");
    if (options.mounts && blobs.contains(mounted)) {
      response.status = 201;
      return response.set_header("Docker-Content-Digest", mounted);
    }
    if (options.min_chunk_bytes > 0)
      response.set_header("OCI-Chunk-Min-Length", std::to_string(options.min_chunk_bytes));
    const std::string fresh = fmt::format("upload-{}", next_upload++);
    uploads[fresh] = "";
    return answer_upload(fresh, request.path, 202, response);
  }
  if (!uploads.contains(id)) return answer_error(response, 404, "BLOB_UPLOAD_UNKNOWN");
  if (request.method == "DELETE") {
    uploads.erase(id);
    response.status = 204;
  } else if (request.method == "GET") {
    answer_upload(id, request.path, 204, response);
  } else if (request.method == "PATCH") {
    const bool partial = fault && fault->kind == Fault::Kind::kPartial;
    uploads[id] += partial ? request.body.substr(0, fault->bytes) : request.body;
    answer_upload(id, request.path, 202, response);
    if (partial) answer_error(response, fault->status, "UNKNOWN");
  } else {
    const std::string content = uploads[id] + request.body;
    const std::string digest = request.get_param_value("digest");
    if (Digest::of(content).text() != digest) return answer_error(response, 400, "DIGEST_INVALID");
    uploads.erase(id);
    blobs[digest] = content;
    response.status = 201;
    response.set_header("Docker-Content-Digest", digest);
  }
}

void FakeRegistry::State::spoil_body(const Fault& fault, httplib::Response& response) {
  if (fault.kind == Fault::Kind::kCorrupt) {
    if (response.body.empty()) return;
    response.body[response.body.size() / 2] = static_cast<char>(response.body[response.body.size() / 2] ^ 1);
  }
  if (fault.kind == Fault::Kind::kHeaders) {
    for (const auto& [name, value] : fault.headers) {
      response.headers.erase(name);
      if (!value.empty()) response.set_header(name, value);
    }
  }
  if (fault.kind == Fault::Kind::kHuge) response.body.append(fault.bytes, ' ');
  if (fault.kind == Fault::Kind::kChunked) {
    const std::string content = std::exchange(response.body, "");
    response.headers.erase("Content-Length");
    response.set_chunked_content_provider("application/octet-stream",
                                          [content](size_t offset, httplib::DataSink& sink) {
                                            if (offset == 0 && !content.empty())
                                              return sink.write(content.data(), content.size());
                                            sink.done();
                                            return true;
                                          });
  }
  if (fault.kind != Fault::Kind::kShortBody && fault.kind != Fault::Kind::kStall) return;
  const std::string content = response.body;
  response.body.clear();
  response.headers.erase("Content-Length");
  response.set_content_provider(
      content.size(), "application/octet-stream",
      [this, content, fault](size_t offset, size_t length, httplib::DataSink& sink) {
        const size_t end = std::min<size_t>(fault.bytes, content.size());
        if (offset < end) return sink.write(content.data() + offset, std::min(length, end - offset));
        std::unique_lock lock(mutex);
        if (fault.kind == Fault::Kind::kStall) gone.wait(lock, [this] { return stopping; });
        return false;
      });
}

FakeRegistry::FakeRegistry(Options options) : state_(std::make_unique<State>(std::move(options))) {
  State& state = *state_;
  const httplib::Server::Handler handler = [&state](const httplib::Request& request,
                                                    httplib::Response& response) {
    state.handle(request, response);
  };
  state.server.Get(".*", handler)
      .Post(".*", handler)
      .Put(".*", handler)
      .Patch(".*", handler)
      .Delete(".*", handler);
  state.server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  state.server.set_tcp_nodelay(true);
  state.server.set_read_timeout(std::chrono::seconds(2));
  state.port = state.server.bind_to_any_port("127.0.0.1");
  state.thread = std::jthread([&state] { state.server.listen_after_bind(); });
  while (!state.server.is_running()) std::this_thread::yield();
}

FakeRegistry::~FakeRegistry() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->gone.notify_all();
  state_->server.stop();
  state_->thread.join();
}

std::string FakeRegistry::authority() const {
  return fmt::format("127.0.0.1:{}", state_->port);
}

void FakeRegistry::inject(std::string method, std::string path, Fault fault, int times) {
  const std::lock_guard lock(state_->mutex);
  state_->faults.push_back({std::move(method), std::move(path), std::move(fault), times});
}

void FakeRegistry::fail_request(size_t index, Fault fault) {
  const std::lock_guard lock(state_->mutex);
  state_->faults_by_index[index] = std::move(fault);
}

void FakeRegistry::on_request(std::function<void(const RecordedRequest&)> hook) {
  const std::lock_guard lock(state_->mutex);
  state_->hook = std::move(hook);
}

void FakeRegistry::redirect(std::string method, std::string path, std::string url) {
  const std::lock_guard lock(state_->mutex);
  state_->redirects.push_back({std::move(method), std::move(path), std::move(url)});
}

void FakeRegistry::serve(std::string path, std::function<std::string(const RecordedRequest&)> answer) {
  const std::lock_guard lock(state_->mutex);
  state_->served[std::move(path)] = std::move(answer);
}

void FakeRegistry::grant(std::string token) {
  const std::lock_guard lock(state_->mutex);
  state_->token = std::move(token);
}

void FakeRegistry::put_blob(const std::string& digest, std::string content) {
  const std::lock_guard lock(state_->mutex);
  state_->blobs[digest] = std::move(content);
}

std::optional<std::string> FakeRegistry::blob(const std::string& digest) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->blobs.find(digest);
  return found == state_->blobs.end() ? std::nullopt : std::optional(found->second);
}

void FakeRegistry::put_manifest(const std::string& reference, std::string media_type, std::string content) {
  const std::lock_guard lock(state_->mutex);
  state_->manifests[reference] = {std::move(media_type), std::move(content)};
}

std::optional<std::string> FakeRegistry::manifest(const std::string& reference) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->manifests.find(reference);
  return found == state_->manifests.end() ? std::nullopt : std::optional(found->second.content);
}

size_t FakeRegistry::open_uploads() const {
  const std::lock_guard lock(state_->mutex);
  return state_->uploads.size();
}

std::vector<RecordedRequest> FakeRegistry::requests() const {
  return requests("", "");
}

std::vector<RecordedRequest> FakeRegistry::requests(const std::string& method,
                                                    const std::string& path) const {
  const std::lock_guard lock(state_->mutex);
  std::vector<RecordedRequest> found;
  for (const RecordedRequest& request : state_->recorded_requests) {
    if (matches(method, path, request)) found.push_back(request);
  }
  return found;
}

}  // namespace obd::test
