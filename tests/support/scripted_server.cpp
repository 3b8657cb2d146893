#include "tests/support/scripted_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace obd::test {

std::string Conversation::read_head() {
  std::string head;
  char next = 0;
  while (!head.ends_with("\r\n\r\n") && ::recv(fd_, &next, 1, 0) == 1) head += next;
  return head;
}

void Conversation::skip(size_t bytes) {
  std::array<char, 64 << 10> buffer;
  while (bytes > 0) {
    const ssize_t got = ::recv(fd_, buffer.data(), std::min(bytes, buffer.size()), 0);
    if (got <= 0) return;
    bytes -= static_cast<size_t>(got);
  }
}

bool Conversation::write(std::string_view text) {
  return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

void Conversation::wait_for_end() {
  char ignored = 0;
  while (::recv(fd_, &ignored, 1, 0) == 1) {
  }
}

ScriptedServer::ScriptedServer(std::function<void(Conversation&)> talk) : talk_(std::move(talk)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener_, generic, size) != 0 || ::listen(listener_, 16) != 0 ||
      ::getsockname(listener_, generic, &size) != 0) {
    throw std::runtime_error("no port for a server");
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::jthread([this] { accept_all(); });
}

ScriptedServer::~ScriptedServer() {
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock(mutex_);
    for (const int client : clients_) ::shutdown(client, SHUT_RDWR);
  }
  talks_.clear();
  ::close(listener_);
}

void ScriptedServer::accept_all() {
  for (;;) {
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    const std::lock_guard lock(mutex_);
    clients_.push_back(client);
    talks_.emplace_back([this, client] {
      Conversation conversation(client);
      talk_(conversation);
      const std::lock_guard end(mutex_);
      clients_.remove(client);
      ::close(client);
    });
  }
}

std::string ScriptedServer::authority() const {
  return "127.0.0.1:" + std::to_string(port_);
}

}  // namespace obd::test
