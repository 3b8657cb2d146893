#pragma once

#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace obd::test {

/// What one client is told, byte by byte, for what no HTTP library would say. All calls block; once the other
/// side is gone, they return at once.
class Conversation {
 public:
  explicit Conversation(int fd) : fd_(fd) {}

  /// What comes before the empty line that ends a request's head, which is taken as well.
  std::string read_head();
  /// Takes the next `bytes`.
  void skip(size_t bytes);
  /// False if the other side is gone.
  bool write(std::string_view text);
  void wait_for_end();

 private:
  int fd_;
};

/// Holds a conversation with each client that connects to a port of 127.0.0.1, on a thread of its own.
///
/// Threads: any.
class ScriptedServer {
 public:
  explicit ScriptedServer(std::function<void(Conversation&)> talk);
  ~ScriptedServer();
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  /// "127.0.0.1:PORT"
  std::string authority() const;

 private:
  void accept_all();

  const std::function<void(Conversation&)> talk_;
  int listener_ = -1;
  int port_ = 0;
  std::mutex mutex_;  // guards clients_
  std::list<int> clients_;
  std::list<std::jthread> talks_;  // the acceptor's, while there is one
  std::jthread acceptor_;
};

}  // namespace obd::test
