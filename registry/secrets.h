#pragma once

#include <deque>
#include <mutex>
#include <string>
#include <vector>

namespace obd::registry {

/// Knows what must not be printed, and takes it out of texts: a server may quote in its answer what it was
/// sent.
///
/// Threads: any.
class Secrets {
 public:
  /// A password, or something made of it: kept for good.
  void add_credential(std::string secret);
  /// A token: there are new ones all the time, so only the last few dozens are kept.
  void add_token(std::string secret);
  /// `text` with "***" for each of them. Those of fewer than four bytes would make confetti of any text and
  /// stay.
  std::string scrub(std::string text) const;

 private:
  mutable std::mutex mutex_;  // guards all below
  std::vector<std::string> credentials_;
  std::deque<std::string> tokens_;
};

}  // namespace obd::registry
