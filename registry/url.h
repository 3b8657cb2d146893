#pragma once

#include <string>
#include <string_view>

namespace obd::registry {

/// An absolute http or https URL that holds no credentials. Whatever else is offered, by a user or by a
/// server, throws NetworkError.
class Url {
 public:
  static Url parse(const std::string& text);

  /// Follows a Location header, which may be relative to this URL.
  Url resolve(const std::string& location) const;
  /// Adds a query parameter to those that are there.
  Url with_query(std::string_view key, std::string_view value) const;

  const std::string& text() const { return text_; }
  /// Scheme, host and port, the port always spelled out: what a credential is bound to.
  const std::string& origin() const { return origin_; }
  const std::string& host() const { return host_; }
  bool is_https() const { return text_.starts_with("https:"); }
  /// For messages: queries often carry signatures.
  std::string redacted() const;

 private:
  Url() = default;
  static Url from_handle(void* handle);

  std::string text_;
  std::string origin_;
  std::string host_;
};

}  // namespace obd::registry
