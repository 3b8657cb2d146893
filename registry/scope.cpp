#include "registry/scope.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace obd::registry {
namespace {

constexpr std::array<std::string_view, 3> kActions = {"pull", "push", "delete"};
constexpr unsigned kPull = 1;
constexpr unsigned kPush = 2;

/// The bits of those that are known; others are passed over.
unsigned parse_actions(std::string_view list) {
  unsigned actions = 0;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const auto found = std::find(kActions.begin(), kActions.end(), list.substr(0, comma));
    if (found != kActions.end()) actions |= 1u << (found - kActions.begin());
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return actions;
}

}  // namespace

ScopeSet ScopeSet::for_access(const std::string& repository, Access access, const std::string& mount_from) {
  ScopeSet scopes;
  scopes.entries_.push_back({repository, access == Access::kPush ? kPull | kPush : kPull});
  if (!mount_from.empty() && mount_from != repository) scopes.entries_.push_back({mount_from, kPull});
  return scopes;
}

bool ScopeSet::widen(std::string_view named) {
  constexpr std::string_view kKind = "repository:";
  bool widened = false;
  while (!named.empty()) {
    const size_t space = std::min(named.find(' '), named.size());
    std::string_view scope = named.substr(0, space);
    named.remove_prefix(std::min(space + 1, named.size()));
    const size_t colon = scope.rfind(':');
    if (!scope.starts_with(kKind) || colon < kKind.size()) continue;
    const std::string_view repository = scope.substr(kKind.size(), colon - kKind.size());
    const unsigned actions = parse_actions(scope.substr(colon + 1));
    for (Entry& entry : entries_) {
      if (entry.repository != repository || (actions & ~entry.actions) == 0) continue;
      entry.actions |= actions;
      widened = true;
    }
  }
  return widened;
}

std::vector<std::string> ScopeSet::texts() const {
  std::vector<std::string> texts;
  for (const Entry& entry : entries_) {
    std::vector<std::string_view> actions;
    for (size_t i = 0; i < kActions.size(); ++i) {
      if ((entry.actions >> i & 1) != 0) actions.push_back(kActions[i]);
    }
    texts.push_back(fmt::format("repository:{}:{}", entry.repository, fmt::join(actions, ",")));
  }
  return texts;
}

std::string ScopeSet::text() const {
  return fmt::format("{}", fmt::join(texts(), " "));
}

}  // namespace obd::registry
