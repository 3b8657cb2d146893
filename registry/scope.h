#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace obd::registry {

enum class Access { kPull, kPush };

/// What a token is to allow: actions on repositories of one registry.
///
/// Source: the token authentication specification of the distribution project, "Requesting a token".
class ScopeSet {
 public:
  /// What `access` to `repository` takes, and reading `mount_from` as well unless that is empty.
  static ScopeSet for_access(const std::string& repository, Access access,
                             const std::string& mount_from = {});

  /// Adds what a registry names in an answer insufficient_scope ("repository:a/b:pull,delete …"). Only pull,
  /// push and delete on repositories that are in the set already are taken: a registry gets no token that
  /// serves for more than the request at hand. Returns whether there was anything to add.
  bool widen(std::string_view named);

  /// "repository:library/ubuntu:pull,push", one for each repository, in the order in which they came.
  std::vector<std::string> texts() const;
  /// All of them, separated by spaces: as OAuth2 wants it, and as the key of a cache.
  std::string text() const;

 private:
  struct Entry {
    std::string repository;
    unsigned actions = 0;  // bits
  };
  std::vector<Entry> entries_;
};

}  // namespace obd::registry
