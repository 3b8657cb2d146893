#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "tests/support/child_process.h"
#include "tests/support/temporary_directory.h"

namespace obd::test {

/// A MariaDB server of its own in a temporary directory, on a port of 127.0.0.1 and a socket; it knows root
/// (socket only, no password) and a user with all rights, and has a certificate for "localhost".
///
/// Threads: one. The server dies with the thread that started it.
class MariaDbServer {
 public:
  enum class Tls { kOn, kOff };
  static constexpr const char* kUser = "farm";
  /// Of all characters that a parser may stumble over.
  static constexpr const char* kPassword = R"(p@ss:w/rd?(x)'" &=%41@tcp)";

  static bool is_installed();
  /// Prepares its directory and starts it. Throws std::runtime_error with what it logged.
  MariaDbServer();
  ~MariaDbServer();
  MariaDbServer(const MariaDbServer&) = delete;
  MariaDbServer& operator=(const MariaDbServer&) = delete;

  /// Returns when it answers.
  void start(Tls tls = Tls::kOn);
  /// Kills it, as a power failure would.
  void stop();

  uint16_t port() const { return port_; }
  std::filesystem::path socket() const { return directory_.path() / "socket"; }
  std::filesystem::path certificate() const { return directory_.path() / "certificate.pem"; }
  /// "user:password@tcp(127.0.0.1:port)/database"
  std::string dsn(const std::string& database) const;
  std::string root_dsn(const std::string& database) const;

 private:
  bool answers() const;

  TemporaryDirectory directory_;
  uint16_t port_ = 0;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace obd::test
