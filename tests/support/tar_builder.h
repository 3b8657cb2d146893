#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include "tests/support/memory.h"

namespace obd::test {

/// Writes tar archives header by header: nothing is checked, so broken ones can be made too.
class TarBuilder {
 public:
  struct Member {
    std::string name;
    char type = '0';
    std::string content = {};
    std::string link = {};
    unsigned mode = 0644;
    unsigned uid = 0;
    unsigned gid = 0;
    unsigned mtime = 0;
    unsigned major = 0;
    unsigned minor = 0;
    std::map<std::string, std::string> pax = {};
  };

  TarBuilder& add(const Member& member) {
    if (!member.pax.empty()) records('x', member.pax);
    header(member, member.content.size());
    body(member.content);
    return *this;
  }
  TarBuilder& file(const std::string& name, const std::string& content) {
    return add({.name = name, .content = content});
  }
  TarBuilder& directory(const std::string& name, unsigned mode = 0755) {
    return add({.name = name, .type = '5', .mode = mode});
  }
  TarBuilder& symlink(const std::string& name, const std::string& target) {
    return add({.name = name, .type = '2', .link = target, .mode = 0777});
  }
  TarBuilder& hardlink(const std::string& name, const std::string& target) {
    return add({.name = name, .type = '1', .link = target});
  }
  /// A GNU header that holds the name ('L') or the link target ('K') of the next member.
  TarBuilder& long_text(char type, const std::string& text) {
    return add({.name = "././@LongLink", .type = type, .content = text + '\0'});
  }
  /// Overwrites a part of the last member's header; its checksum is made right again.
  TarBuilder& patch(size_t at, std::string_view text) {
    std::string block(512, '\0');
    std::memcpy(block.data(), &bytes_[last_header_], block.size());
    text.copy(&block[at], text.size());
    set_checksum(block);
    std::memcpy(&bytes_[last_header_], block.data(), block.size());
    return *this;
  }
  /// Bytes as they are, without padding.
  TarBuilder& raw(std::string_view text) {
    append(text);
    return *this;
  }
  /// Extended headers for the next member ('x') or all that follow ('g').
  TarBuilder& records(char type, const std::map<std::string, std::string>& records) {
    std::string text;
    for (const auto& [key, value] : records) {
      const size_t rest = key.size() + value.size() + 3;
      size_t length = rest + 1;
      while (fmt::format("{}", length).size() + rest != length) ++length;
      text += fmt::format("{} {}={}\n", length, key, value);
    }
    header({.name = "pax", .type = type}, text.size());
    body(text);
    return *this;
  }
  TarBuilder& end() {
    bytes_.resize(bytes_.size() + 1024);
    return *this;
  }
  const Bytes& bytes() const { return bytes_; }

  /// Of a header block of 512 bytes.
  static void set_checksum(std::string& block) {
    block.replace(148, 8, 8, ' ');
    unsigned sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    const std::string digits = fmt::format("{:06o}", sum);
    block.replace(148, digits.size(), digits);
    block[154] = '\0';
  }

 private:
  void header(const Member& member, size_t size) {
    std::string block(512, '\0');
    const auto put = [&](size_t at, std::string_view text) {
      std::copy(text.begin(), text.end(), block.begin() + static_cast<ptrdiff_t>(at));
    };
    put(0, std::string_view(member.name).substr(0, 100));
    put(100, fmt::format("{:07o}", member.mode));
    put(108, fmt::format("{:07o}", member.uid));
    put(116, fmt::format("{:07o}", member.gid));
    put(124, fmt::format("{:011o}", size));
    put(136, fmt::format("{:011o}", member.mtime));
    block[156] = member.type;
    put(157, std::string_view(member.link).substr(0, 100));
    put(257, std::string_view("ustar\00000", 8));
    put(329, fmt::format("{:07o}", member.major));
    put(337, fmt::format("{:07o}", member.minor));
    set_checksum(block);
    last_header_ = bytes_.size();
    append(block);
  }
  void body(const std::string& content) {
    append(content);
    bytes_.resize((bytes_.size() + 511) / 512 * 512);
  }
  void append(std::string_view text) {
    const Bytes more = to_bytes(text);
    bytes_.insert(bytes_.end(), more.begin(), more.end());
  }

  Bytes bytes_;
  size_t last_header_ = 0;
};

/// Gives every block that might be a header the checksum that it needs: no fuzzer finds one.
inline void fix_checksums(Bytes& archive) {
  for (size_t at = 0; at + 512 <= archive.size(); at += 512) {
    if (archive[at + 148] != std::byte{'0'}) continue;
    std::string block(reinterpret_cast<const char*>(&archive[at]), 512);
    TarBuilder::set_checksum(block);
    std::memcpy(&archive[at], block.data(), block.size());
  }
}

}  // namespace obd::test
