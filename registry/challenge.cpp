#include "registry/challenge.h"

#include <algorithm>
#include <cstdint>

#include "registry/text.h"

namespace obd::registry {
namespace {

bool is_token_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         (c != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos);
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  bool at_end() const { return text_.empty(); }
  bool skip(char c) {
    skip_space();
    if (!text_.starts_with(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  void skip_space() {
    while (text_.starts_with(' ') || text_.starts_with('\t')) text_.remove_prefix(1);
  }
  std::string token() {
    skip_space();
    const auto end = std::find_if_not(text_.begin(), text_.end(), is_token_character);
    const auto length = static_cast<size_t>(end - text_.begin());
    std::string result(text_.substr(0, length));
    text_.remove_prefix(length);
    return result;
  }
  std::string token_or_quoted() {
    skip_space();
    if (!text_.starts_with('"')) return token();
    text_.remove_prefix(1);
    std::string result;
    while (!text_.empty() && text_.front() != '"') {
      if (text_.front() == '\\' && text_.size() > 1) text_.remove_prefix(1);
      result += text_.front();
      text_.remove_prefix(1);
    }
    if (!text_.empty()) text_.remove_prefix(1);
    return result;
  }

 private:
  std::string_view text_;
};

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string base64(std::string_view data) {
  std::string result;
  for (size_t i = 0; i < data.size(); i += 3) {
    const size_t count = std::min<size_t>(3, data.size() - i);
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) {
      bits = bits << 8 | (k < count ? static_cast<unsigned char>(data[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      result += k <= count ? kAlphabet[bits >> (18 - 6 * k) & 63] : '=';
    }
  }
  return result;
}

}  // namespace

std::vector<Challenge> parse_challenges(std::string_view header) {
  std::vector<Challenge> challenges;
  Scanner scanner(header);
  while (!scanner.at_end()) {
    const std::string word = lower_case(scanner.token());
    if (word.empty()) {
      if (!scanner.skip(',')) break;
    } else if (scanner.skip('=')) {
      if (challenges.empty()) break;
      challenges.back().parameters[word] = scanner.token_or_quoted();
    } else {
      challenges.push_back({word, {}});
    }
    scanner.skip_space();
  }
  return challenges;
}

std::string basic_authorization(std::string_view user, std::string_view password) {
  return "Basic " + base64(std::string(user) + ':' + std::string(password));
}

std::optional<std::string> base64_decode(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  size_t padding = 0;
  while (padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++padding;
  }
  std::string result;
  uint32_t bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    const size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    bits = (bits << 6 | static_cast<uint32_t>(value)) & 0xFFFFFF;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    result += static_cast<char>(bits >> count & 0xFF);
  }
  return result;
}

}  // namespace obd::registry
