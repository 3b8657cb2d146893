#include "tests/support/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <stdexcept>

namespace obd::test {
namespace {

std::array<UniqueFd, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  auto [child_input, input] = make_pipe();
  auto [output, child_output] = make_pipe();
  process_ = ::fork();
  if (process_ < 0) throw std::runtime_error("fork failed");
  if (process_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(child_input.get(), STDIN_FILENO);
    ::dup2(child_output.get(), STDOUT_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  input_ = std::move(input);
  output_ = std::move(output);
}

ChildProcess::~ChildProcess() {
  kill();
}

std::string ChildProcess::read_line() {
  constexpr int kMinute = 60'000;
  std::string line;
  for (char c = 0;; line += c) {
    pollfd ready{output_.get(), POLLIN, 0};
    if (::poll(&ready, 1, kMinute) <= 0) throw std::runtime_error("the child says nothing");
    if (::read(output_.get(), &c, 1) != 1) throw std::runtime_error("the child has ended after: " + line);
    if (c == '\n') return line;
  }
}

void ChildProcess::kill() {
  if (process_ < 0) return;
  ::kill(process_, SIGKILL);
  wait();
}

bool ChildProcess::has_ended() {
  if (process_ >= 0 && ::waitpid(process_, &status_, WNOHANG) == process_) process_ = -1;
  return process_ < 0;
}

int ChildProcess::wait() {
  if (process_ >= 0) ::waitpid(process_, &status_, 0);
  process_ = -1;
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
}

}  // namespace obd::test
