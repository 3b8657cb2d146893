#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/unique_fd.h"

namespace obd::test {

/// A program that runs beside the test; its standard input and output are pipes. Killed on destruction, and
/// when the thread that made it ends. One thread.
class ChildProcess {
 public:
  /// The program's path and its arguments.
  explicit ChildProcess(const std::vector<std::string>& command);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// What it prints up to the next end of line; fails the wait after a minute with an exception.
  std::string read_line();
  void close_input() { input_.reset(); }
  /// SIGKILL, and waits for its end.
  void kill();
  /// Waits for its end: the exit code, 128 + signal where one ended it.
  int wait();
  bool has_ended();

 private:
  pid_t process_ = -1;  // -1 once it has been waited for
  int status_ = 0;
  UniqueFd input_;
  UniqueFd output_;
};

}  // namespace obd::test
