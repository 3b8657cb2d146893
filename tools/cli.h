#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>
#include "tools/cxxopts_config.h"

#include "common/error.h"
#include "common/unique_fd.h"
#include "registry/registry.h"

// What the programs of this folder share: streams, exit codes, option tables, signals, logs.

namespace obd::tools {

/// A request from outside to end a run, and what the program is to exit with.
///
/// Threads: any.
class StopRequest {
 public:
  std::stop_token token() const { return source_.get_token(); }
  /// The first reason counts.
  void request(ExitCode reason);
  ExitCode reason() const;

 private:
  std::stop_source source_;
  mutable std::mutex mutex_;  // guards reason_
  ExitCode reason_ = ExitCode::kInterrupted;
};

/// All that a tool has of the world around it, so that tests can run it in-process.
struct Io {
  std::istream& in;
  std::ostream& out;  // results
  std::ostream& err;  // logs, progress, errors
  bool tty = false;   // `err` is a terminal that understands control sequences
  std::shared_ptr<StopRequest> stop = std::make_shared<StopRequest>();
};

/// What the body of a tool shares with run_tool().
struct Run {
  Io& io;
  /// Set by the body once it knows: an error is then printed to `io.out` too, as one JSON object with the
  /// fields type ("error"), exit_code and message.
  bool json = false;

  std::stop_token stop() const { return io.stop->token(); }
};

/// Runs `body` and turns what it throws into an exit code and one line "program: error: …" on `io.err`.
/// A standard output that cannot be written is an error too.
int run_tool(std::string_view program, Io& io, const std::function<ExitCode(Run&)>& body);

/// For main(): the real streams, SIGINT and SIGTERM as stop requests, SIGPIPE ignored.
/// Passwords in `argv` are overwritten before anything else happens. `tool_main` receives the arguments as
/// they were, without the program's name.
int run_main(int argc, char** argv, int (*tool_main)(const std::vector<std::string>& args, Io io));

/// While it lives, SIGINT and SIGTERM ask `stop` to stop (exit code 130 or 143). A second signal ends the
/// process at once, and so does `patience` after the first one: a database that hangs cannot be interrupted.
/// Make it before other threads: they inherit the signal mask.
class SignalWatch {
 public:
  explicit SignalWatch(std::shared_ptr<StopRequest> stop,
                       std::chrono::milliseconds patience = std::chrono::seconds(5));
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  void watch();

  std::shared_ptr<StopRequest> stop_;
  const std::chrono::milliseconds patience_;
  sigset_t previous_mask_{};
  UniqueFd signals_;
  UniqueFd wake_;  // readable when the watch is to end
  std::jthread thread_;
};

/// Directs the process's log to `err`, which must live as long as anything logs: one line per event.
/// Level warning, or debug where `verbose`.
void configure_logging(std::ostream& err, bool verbose);

/// Parses by a cxxopts table. Throws UsageError that names the option at fault, with a suggestion where an
/// unknown one resembles one of the table's; and for arguments that the table has no place for.
/// Calls allow_unrecognised_options() on `options`, to name them itself.
cxxopts::ParseResult parse_options(cxxopts::Options& options, const std::vector<std::string>& args);

/// Long names of all options of a table, as --help lists them.
std::vector<std::string> option_names(const cxxopts::Options& options);

/// The candidate that a user may have meant by `text`; empty if none is near.
std::string did_you_mean(std::string_view text, const std::vector<std::string>& candidates);

/// "user:password"; the password may hold colons, and is empty where there is none. Throws UsageError.
registry::Credential parse_credential(std::string_view text);

/// "812 B", "4.0 KiB", "1.2 GiB".
std::string human_bytes(uint64_t bytes);

/// Raw bytes as text that is safe to print and is valid UTF-8: control characters, backslashes and what is
/// not UTF-8 become \xNN.
std::string printable(std::string_view bytes);

}  // namespace obd::tools
