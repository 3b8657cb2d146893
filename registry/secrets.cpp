#include "registry/secrets.h"

#include <algorithm>

namespace obd::registry {
namespace {

constexpr size_t kShortestSecret = 4;
constexpr size_t kMaxTokens = 64;

void replace_all(std::string& text, const std::string& secret) {
  for (size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + 3)) {
    text.replace(at, secret.size(), "***");
  }
}

}  // namespace

void Secrets::add_credential(std::string secret) {
  if (secret.size() < kShortestSecret) return;
  const std::lock_guard lock(mutex_);
  if (std::count(credentials_.begin(), credentials_.end(), secret) == 0) {
    credentials_.push_back(std::move(secret));
  }
}

void Secrets::add_token(std::string secret) {
  if (secret.size() < kShortestSecret) return;
  const std::lock_guard lock(mutex_);
  tokens_.push_back(std::move(secret));
  if (tokens_.size() > kMaxTokens) tokens_.pop_front();
}

std::string Secrets::scrub(std::string text) const {
  const std::lock_guard lock(mutex_);
  for (const std::string& secret : credentials_) replace_all(text, secret);
  for (const std::string& secret : tokens_) replace_all(text, secret);
  return text;
}

}  // namespace obd::registry
