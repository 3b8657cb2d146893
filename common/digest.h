#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace obd {

/// A SHA-256 digest in the form of the OCI image specification: `sha256:` and 64 lower-case hex digits.
/// Other algorithms are refused, so that a digest can be a file name and a part of a URL as it stands.
class Digest {
 public:
  /// Names nothing yet: its text is empty.
  Digest() = default;
  /// Throws DataError if `text` is not of that form. `where` it was found, for the message.
  static Digest parse(std::string_view text, std::string_view where = {});
  static Digest from_bytes(const std::array<std::byte, 32>& bytes);
  /// Of all of `data`.
  static Digest of(std::span<const std::byte> data);
  static Digest of(std::string_view data);
  static bool is_valid(std::string_view text);

  /// "sha256:…"
  const std::string& text() const { return text_; }
  /// The 64 digits alone.
  std::string_view hex() const { return std::string_view(text_).substr(text_.empty() ? 0 : 7); }
  /// The first 12 digits, for logs.
  std::string_view brief() const { return hex().substr(0, 12); }
  auto operator<=>(const Digest&) const = default;

 private:
  explicit Digest(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

/// Streaming SHA-256. One thread at a time.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::byte> data);
  /// Ends the stream; the object must not be used afterwards.
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace obd
