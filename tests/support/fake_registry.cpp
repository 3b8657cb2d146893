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

#include "tests/support/fake_store.h"

namespace obd::test {
namespace {

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

/// A thread for each connection: tests make many registries, most of which see few.
class ConnectionThreads final : public httplib::TaskQueue {
 public:
  void enqueue(std::function<void()> serve) override { threads_.emplace_back(std::move(serve)); }
  void shutdown() override { threads_.clear(); }

 private:
  std::vector<std::jthread> threads_;
};

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
  bool may_enter(const RecordedRequest& request, httplib::Response& response);
  void spoil_body(const Fault& fault, httplib::Response& response);

  const Options options;
  httplib::Server server;
  int port = 0;
  std::jthread thread;

  mutable std::mutex mutex;  // guards all below
  std::condition_variable_any gone;
  bool stopping = false;
  FakeStore store{options};
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
  store.do_duty(request, recorded, response, fault);
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
  state.server.new_task_queue = [] { return new ConnectionThreads; };
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

void FakeRegistry::forget_faults() {
  const std::lock_guard lock(state_->mutex);
  state_->faults.clear();
  state_->faults_by_index.clear();
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

void FakeRegistry::put_blob(const std::string& digest, std::string content, const std::string& repository) {
  const std::lock_guard lock(state_->mutex);
  state_->store.blobs[state_->store.key(repository, digest)] = std::move(content);
}

void FakeRegistry::remove_blob(const std::string& digest, const std::string& repository) {
  const std::lock_guard lock(state_->mutex);
  state_->store.blobs.erase(state_->store.key(repository, digest));
}

std::optional<std::string> FakeRegistry::blob(const std::string& digest,
                                              const std::string& repository) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->store.blobs.find(state_->store.key(repository, digest));
  return found == state_->store.blobs.end() ? std::nullopt : std::optional(found->second);
}

void FakeRegistry::put_manifest(const std::string& reference, std::string media_type, std::string content,
                                const std::string& repository) {
  const std::lock_guard lock(state_->mutex);
  state_->store.manifests[state_->store.key(repository, reference)] = {std::move(media_type),
                                                                       std::move(content)};
}

std::optional<std::string> FakeRegistry::manifest(const std::string& reference,
                                                  const std::string& repository) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->store.manifests.find(state_->store.key(repository, reference));
  return found == state_->store.manifests.end() ? std::nullopt : std::optional(found->second.content);
}

size_t FakeRegistry::open_uploads() const {
  const std::lock_guard lock(state_->mutex);
  return state_->store.uploads.size();
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
