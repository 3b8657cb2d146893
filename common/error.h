#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <system_error>

namespace obd {

/// What a program ends with; the table stands in README.md.
enum class ExitCode : int {
  kSuccess = 0,
  kInternal = 1,
  kUsage = 2,
  kData = 3,
  kIo = 4,
  kNetwork = 5,
  kAuth = 6,
  kDatabase = 7,
  kCapacity = 8,
  kMismatch = 9,
  kInterrupted = 130,
  kTerminated = 143,
};

/// Root of all failures that a caller may expect. what() reads "<what we were doing>: <cause>" and never
/// holds a secret. Each level that knows more adds its part once, with add_context().
class Error : public std::exception {
 public:
  explicit Error(std::string message, ExitCode code = ExitCode::kInternal)
      : message_(std::move(message)), code_(code) {}
  const char* what() const noexcept override { return message_.c_str(); }
  ExitCode exit_code() const noexcept { return code_; }
  /// Puts "context: " in front of the message; for `catch (Error& e) { e.add_context(...); throw; }`.
  void add_context(std::string_view context);

 private:
  std::string message_;
  ExitCode code_;
};

/// Bad flags or configuration.
class UsageError : public Error {
 public:
  explicit UsageError(std::string message) : Error(std::move(message), ExitCode::kUsage) {}
};

/// Malformed input: the message says which blob, at which offset, what was expected and what was found.
class DataError : public Error {
 public:
  explicit DataError(std::string message) : Error(std::move(message), ExitCode::kData) {}
};

/// The operating system refused: the message names the path.
class IoError : public Error {
 public:
  explicit IoError(std::string message) : Error(std::move(message), ExitCode::kIo) {}
  /// "<what>: <strerror(errno)>"
  static IoError from_errno(std::string_view what, int error_number);
};

/// A remote side failed or refused: method, redacted URL and status are in the message.
class NetworkError : public Error {
 public:
  explicit NetworkError(std::string message, int http_status = 0, bool retryable = false)
      : Error(std::move(message), ExitCode::kNetwork), http_status_(http_status), retryable_(retryable) {}
  /// 0 when no answer came.
  int http_status() const noexcept { return http_status_; }
  bool retryable() const noexcept { return retryable_; }

 protected:
  NetworkError(std::string message, int http_status, ExitCode code)
      : Error(std::move(message), code), http_status_(http_status) {}

 private:
  int http_status_ = 0;
  bool retryable_ = false;
};

/// The remote side did not accept our credentials, or wants some.
class AuthError : public NetworkError {
 public:
  explicit AuthError(std::string message, int http_status = 401)
      : NetworkError(std::move(message), http_status, ExitCode::kAuth) {}
};

/// The conversion database is out of reach, or refuses what we ask of it.
class DbError : public Error {
 public:
  explicit DbError(std::string message) : Error(std::move(message), ExitCode::kDatabase) {}
};

/// Something is full: the virtual disk, its inodes, a format's limit or a memory budget.
class CapacityError : public Error {
 public:
  explicit CapacityError(std::string message) : Error(std::move(message), ExitCode::kCapacity) {}
};

/// The work was stopped from outside; not a failure of its own.
class Cancelled : public std::exception {
 public:
  const char* what() const noexcept override { return "stopped"; }
};

[[noreturn]] void check_failed(const char* expression, const char* file, int line);

}  // namespace obd

/// Guards against our own bugs, never against input. Stays in release builds.
#define OBD_CHECK(expression) \
  ((expression) ? static_cast<void>(0) : ::obd::check_failed(#expression, __FILE__, __LINE__))
