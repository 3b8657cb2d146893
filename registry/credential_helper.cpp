#include "registry/credential_helper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "common/error.h"
#include "common/json.h"
#include "common/unique_fd.h"

namespace obd::registry {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxQuotedBytes = 300;
constexpr std::chrono::milliseconds kExitPoll{10};  // between the end of its output and its own
/// The user name by which a helper says that the secret is an identity token.
constexpr std::string_view kTokenUser = "<token>";

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw IoError::from_errno("making a pipe", errno);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

/// A file rather than a pipe: a program that does not read its input is no trouble then.
UniqueFd file_with(const std::string& text) {
  UniqueFd file(::memfd_create("server", MFD_CLOEXEC));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::lseek(file.get(), 0, SEEK_SET) != 0) {
    throw IoError::from_errno("preparing input for a credential helper", errno);
  }
  return file;
}

/// What posix_spawn() wants to be told; freed with its owner.
class SpawnSettings {
 public:
  SpawnSettings(int in, int out, int err) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_adddup2(&actions_, in, STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions_, out, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions_, err, STDERR_FILENO);
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);
    ::posix_spawnattr_init(&attributes_);
    // This process blocks or ignores signals that the helper should die of.
    sigset_t none;
    ::sigemptyset(&none);
    sigset_t standard;
    ::sigemptyset(&standard);
    ::sigaddset(&standard, SIGPIPE);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &standard);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

/// A child that does not outlive its owner.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Exit code, or 128 and the signal that ended it; none while it runs.
  std::optional<int> exit_code() {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_;
};

struct Answer {
  int exit_code = 0;
  std::string out;
  std::string err;
};

class HelperRun {
 public:
  HelperRun(std::string program, const HelperLimits& limits, const std::stop_token& stop)
      : program_(std::move(program)),
        limits_(limits),
        stop_(stop),
        end_(Clock::now() + limits.timeout),
        wake_(::eventfd(0, EFD_CLOEXEC)) {
    if (!wake_) throw IoError::from_errno("preparing for a credential helper", errno);
  }

  Answer run(const std::string& input) {
    const std::stop_callback on_stop(stop_, [this] {
      const uint64_t one = 1;
      [[maybe_unused]] const ssize_t put = ::write(wake_.get(), &one, sizeof one);
    });
    Pipe out = make_pipe();
    Pipe err = make_pipe();
    const UniqueFd in = file_with(input);
    Child child(spawn(in.get(), out.write_end.get(), err.write_end.get()));
    out.write_end.reset();
    err.write_end.reset();
    Answer answer;
    while (out.read_end || err.read_end) {
      const auto ready = wait_for(out.read_end.get(), err.read_end.get(), limits_.timeout);
      if (ready[0]) take(out.read_end, answer.out);
      if (ready[1]) take(err.read_end, answer.err);
    }
    std::optional<int> exit_code = child.exit_code();
    for (; !exit_code; exit_code = child.exit_code()) wait_for(-1, -1, kExitPoll);
    answer.exit_code = *exit_code;
    return answer;
  }

 private:
  pid_t spawn(int in, int out, int err) const {
    const SpawnSettings settings(in, out, err);
    std::string get = "get";
    std::string program = program_;
    std::array<char*, 3> arguments = {program.data(), get.data(), nullptr};
    pid_t pid = -1;
    const int error = ::posix_spawnp(&pid, program_.c_str(), settings.actions(), settings.attributes(),
                                     arguments.data(), environ);
    if (error == ENOENT) throw AuthError(fmt::format("{}: there is no such program in PATH", program_), 0);
    if (error != 0) throw AuthError(IoError::from_errno(program_, error).what(), 0);
    return pid;
  }

  /// At most `longest`, for either of two descriptors (-1: none); which of them are ready.
  std::array<bool, 2> wait_for(int first, int second, std::chrono::milliseconds longest) const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now());
    if (left.count() <= 0) {
      throw AuthError(fmt::format("{}: it did not end within {} ms", program_, limits_.timeout.count()), 0);
    }
    std::array<pollfd, 3> ready = {pollfd{first, POLLIN, 0}, pollfd{second, POLLIN, 0},
                                   pollfd{wake_.get(), POLLIN, 0}};
    const int count = ::poll(ready.data(), ready.size(), static_cast<int>(std::min(left, longest).count()));
    if (count < 0 && errno != EINTR) throw IoError::from_errno("waiting for a credential helper", errno);
    if (stop_.stop_requested()) throw Cancelled();
    return {count > 0 && ready[0].revents != 0, count > 0 && ready[1].revents != 0};
  }

  void take(UniqueFd& fd, std::string& text) const {
    std::array<char, 4096> piece;
    const ssize_t got = ::read(fd.get(), piece.data(), piece.size());
    if (got > 0) {
      text.append(piece.data(), static_cast<size_t>(got));
      if (text.size() > limits_.max_answer_bytes) {
        throw AuthError(fmt::format("{}: it answers more than {} bytes", program_, limits_.max_answer_bytes),
                        0);
      }
    } else if (got == 0 || errno != EINTR) {
      fd.reset();
    }
  }

  const std::string program_;
  const HelperLimits limits_;
  const std::stop_token stop_;
  const Clock::time_point end_;
  const UniqueFd wake_;  // readable once the stop token fires
};

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() <= 100 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

/// One line of printable characters; nothing where it seems to be the answer itself.
std::string words_of(const Answer& answer) {
  std::string text = answer.out.empty() ? answer.err : answer.out;
  if (text.find("Secret") != std::string::npos) return "(its words may hold a secret and are left out)";
  text.resize(std::min(text.size(), kMaxQuotedBytes));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; }, ' ');
  text.erase(text.find_last_not_of(' ') + 1);
  return text.empty() ? "(it says nothing)" : text;
}

}  // namespace

std::optional<Credential> ask_credential_helper(const std::string& name, const std::string& server,
                                                const std::stop_token& stop, const HelperLimits& limits) {
  if (!is_plain_name(name)) {
    throw UsageError("a credential helper is named by letters, digits, '-', '_' and '.', without a path");
  }
  const std::string program = "docker-credential-" + name;
  const Answer answer = HelperRun(program, limits, stop).run(server);
  if (answer.exit_code != 0) {
    // The protocol has no other sign for it.
    if ((answer.out + answer.err).find("credentials not found") != std::string::npos) return std::nullopt;
    throw AuthError(
        fmt::format("{} get {}: exit code {}: {}", program, server, answer.exit_code, words_of(answer)), 0);
  }
  Json document;
  try {
    document = parse_json(answer.out, program);
  } catch (const DataError&) {
  }
  const std::string user = text_field(document, "Username");
  std::string secret = text_field(document, "Secret");
  if (secret.empty()) {
    throw AuthError(fmt::format("{} get {}: its answer is no JSON object with a Secret", program, server), 0);
  }
  if (user == kTokenUser) return Credential{.user = {}, .password = {}, .identity_token = std::move(secret)};
  return Credential{.user = user, .password = std::move(secret), .identity_token = {}};
}

}  // namespace obd::registry
