#pragma once

#include <set>
#include <stop_token>

#include "convertor/image.h"
#include "registry/registry.h"

namespace obd::convertor {

/// Brings manifests, and indexes with all that they name, to another repository, byte for byte, each once.
/// Nothing to do where both are one. Foreign layers that have URLs are left to these. Indexes may be nested
/// up to 4 deep.
///
/// Threads: one at a time. Both repositories outlive it.
class ManifestCopier {
 public:
  ManifestCopier(registry::Repository& source, registry::Repository& target)
      : source_(source), target_(target) {}

  /// Throws what the repositories throw; DataError for what is malformed, nested too deep, or for more than
  /// 10,000 manifests.
  void copy(const Descriptor& manifest, const std::stop_token& stop);

 private:
  void copy(const Descriptor& manifest, int depth, const std::stop_token& stop);

  registry::Repository& source_;
  registry::Repository& target_;
  std::set<Digest> copied_;
};

}  // namespace obd::convertor
