#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "registry/registry.h"

namespace obd::registry {

class RegistryClient;

/// A manifest and the one that it refers to.
struct Referral {
  Digest subject;
  Referrer referrer;
};

/// What a manifest or an index says of its subject; none if it has none. Throws DataError if that is
/// malformed.
std::optional<Referral> find_referral(std::string_view bytes, const std::string& media_type);

/// The lists of referrers of one repository, in the registry's own form, or as an index under a tag made of
/// the subject's digest where the registry keeps none.
///
/// Threads: any; entries that several threads, processes or machines add at once are all there in the end:
///          within this process by a lock; with others by a conditional PUT where the registry knows it, else
///          by looking again after a while.
/// Errors:  as RegistryClient; DataError for a list that is malformed or beyond its cap.
/// Source:  distribution specification 1.1, "Listing referrers", "Referrers tag schema".
class ReferrersClient {
 public:
  /// `client` must outlive this.
  explicit ReferrersClient(RegistryClient& client) : client_(client) {}

  std::vector<Referrer> list(const Digest& subject, const std::stop_token& stop);
  /// Adds to the tagged index what a registry without an own list was given. NetworkError if others take the
  /// entry out again each time.
  void add(const Referral& referral, const std::stop_token& stop);

 private:
  struct TaggedIndex;

  std::optional<std::vector<Referrer>> list_by_registry(const Digest& subject, const std::stop_token& stop);
  TaggedIndex pull_index(const Digest& subject, const std::stop_token& stop);
  /// False if somebody else changed it meanwhile.
  bool push_index(const Referral& referral, const TaggedIndex& old, const std::stop_token& stop);
  bool update(const Referral& referral, const std::stop_token& stop);

  RegistryClient& client_;
};

}  // namespace obd::registry
