#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "tools/cli.h"

namespace obd::tools {

void StopRequest::request(ExitCode reason) {
  {
    const std::lock_guard lock(mutex_);
    if (source_.stop_requested()) return;
    reason_ = reason;
  }
  source_.request_stop();
}

ExitCode StopRequest::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

// Signals are read from a descriptor by a thread of ours: no handler runs, so nothing has to be
// async-signal-safe.
SignalWatch::SignalWatch(std::shared_ptr<StopRequest> stop, std::chrono::milliseconds patience)
    : stop_(std::move(stop)), patience_(patience) {
  sigset_t wanted;
  ::sigemptyset(&wanted);
  ::sigaddset(&wanted, SIGINT);
  ::sigaddset(&wanted, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &wanted, &previous_mask_);
  signals_.reset(::signalfd(-1, &wanted, SFD_CLOEXEC));
  wake_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!signals_ || !wake_) throw IoError::from_errno("preparing for signals", errno);
  thread_ = std::jthread([this] { watch(); });
}

SignalWatch::~SignalWatch() {
  const uint64_t one = 1;
  // An eventfd takes its first write without fail.
  [[maybe_unused]] const ssize_t put = ::write(wake_.get(), &one, sizeof one);
  thread_.join();
  ::pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr);
}

void SignalWatch::watch() {
  std::array<pollfd, 2> ready{pollfd{signals_.get(), POLLIN, 0}, pollfd{wake_.get(), POLLIN, 0}};
  int timeout = -1;
  for (std::optional<ExitCode> asked;;) {
    const int count = ::poll(ready.data(), ready.size(), timeout);
    if (count == 0) {
      constexpr std::string_view kWords = "error: stopped without cleaning up: something does not answer\n";
      [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kWords.data(), kWords.size());
      ::_exit(static_cast<int>(asked.value()));
    }
    if (count < 0) continue;  // EINTR
    if (ready[1].revents != 0) return;
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) != sizeof info) continue;
    const ExitCode code =
        info.ssi_signo == static_cast<uint32_t>(SIGTERM) ? ExitCode::kTerminated : ExitCode::kInterrupted;
    if (asked) ::_exit(static_cast<int>(code));
    asked = code;
    timeout = static_cast<int>(patience_.count());
    stop_->request(code);
  }
}

}  // namespace obd::tools
