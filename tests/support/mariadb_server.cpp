#include "tests/support/mariadb_server.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "common/unique_fd.h"

namespace obd::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kServer = "/usr/sbin/mariadbd";
constexpr const char* kInstaller = "/usr/bin/mariadb-install-db";

uint16_t free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* general = reinterpret_cast<sockaddr*>(&address);
  if (::bind(fd.get(), general, length) != 0 || ::getsockname(fd.get(), general, &length) != 0) {
    throw std::runtime_error("no free port");
  }
  return ntohs(address.sin_port);
}

/// For SQL: quotes and backslashes doubled.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += c;
    out += c;
  }
  return out + "'";
}

void run(const std::string& command) {
  if (std::system(command.c_str()) != 0) throw std::runtime_error("failed: " + command);
}

}  // namespace

bool MariaDbServer::is_installed() {
  return fs::exists(kServer) && fs::exists(kInstaller);
}

MariaDbServer::MariaDbServer() : port_(free_port()) {
  const std::string home = directory_.path().string();
  run(std::string(kInstaller) + " --no-defaults --auth-root-authentication-method=normal --skip-test-db " +
      (::geteuid() == 0 ? "--user=root " : "") + "--datadir=" + home + "/data >" + home +
      "/install.log 2>&1");
  run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost "
      "-addext subjectAltName=DNS:localhost -keyout " +
      home + "/key.pem -out " + certificate().string() + " >/dev/null 2>&1");
  const std::string user = quoted(kUser) + "@'%'";
  write_file(directory_.path() / "init.sql", "CREATE USER IF NOT EXISTS " + user + " IDENTIFIED BY " +
                                                 quoted(kPassword) + ";\nGRANT ALL ON *.* TO " + user +
                                                 ";\n");
  start();
}

MariaDbServer::~MariaDbServer() {
  stop();
}

void MariaDbServer::start(Tls tls) {
  const std::string home = directory_.path().string();
  std::vector<std::string> words = {kServer,
                                    "--no-defaults",
                                    "--datadir=" + home + "/data",
                                    "--socket=" + socket().string(),
                                    "--port=" + std::to_string(port_),
                                    "--bind-address=127.0.0.1",
                                    "--pid-file=" + home + "/pid",
                                    "--log-error=" + home + "/log",
                                    "--init-file=" + home + "/init.sql",
                                    "--skip-log-bin",
                                    "--skip-name-resolve",
                                    "--innodb-buffer-pool-size=16M",
                                    "--innodb-flush-log-at-trx-commit=2",
                                    "--skip-slave-start"};
  if (::geteuid() == 0) words.emplace_back("--user=root");
  if (tls == Tls::kOn) {
    words.push_back("--ssl-cert=" + certificate().string());
    words.push_back("--ssl-key=" + home + "/key.pem");
  }
  process_ = std::make_unique<ChildProcess>(words);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!answers()) {
    if (process_->has_ended() || std::chrono::steady_clock::now() > deadline) {
      throw std::runtime_error("mariadbd does not start:\n" + read_file(directory_.path() / "log"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

void MariaDbServer::stop() {
  process_.reset();
}

bool MariaDbServer::answers() const {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket().c_str(), sizeof address.sun_path - 1);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

std::string MariaDbServer::dsn(const std::string& database) const {
  return std::string(kUser) + ":" + kPassword + "@tcp(127.0.0.1:" + std::to_string(port_) + ")/" + database;
}

std::string MariaDbServer::root_dsn(const std::string& database) const {
  return "root@unix(" + socket().string() + ")/" + database;
}

}  // namespace obd::test
