#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/digest.h"
#include "registry/index_document.h"

namespace obd::registry {

/// The index.json of an OCI image layout: which tags there are. Blobs are none of its business.
///
/// Threads: any, and any number of processes: a change is made under a lock and appears at once.
/// Errors:  IoError for a layout that is missing or cannot be read; DataError for one that is malformed.
class LayoutIndex {
 public:
  explicit LayoutIndex(std::filesystem::path directory);

  /// Makes the layout (oci-layout, index.json, blobs/sha256) where any of it is missing.
  void create() const;

  /// Throws IoError if nothing has that tag, naming some that are there; DataError if several manifests have
  /// it.
  LayoutEntry find_tag(const std::string& tag) const;
  /// Empty if the manifest is not listed, which does not mean that it is not there.
  std::optional<LayoutEntry> find_digest(const Digest& digest) const;

  /// All that are listed, with a tag or without, each digest once. Other things than manifests may be among
  /// them.
  std::vector<LayoutEntry> entries() const;

  /// Lists a manifest that has no tag, unless it is listed.
  void add(const LayoutEntry& entry) const;
  /// Moves `tag` to `entry`. Everything else in index.json stays as it is, fields unknown to us too.
  void set_tag(const std::string& tag, const LayoutEntry& entry) const;
  /// set_tag() if `tag` names `expected` (none: nothing); else false.
  bool replace_tag(const std::string& tag, const std::optional<Digest>& expected,
                   const LayoutEntry& entry) const;

 private:
  std::string name() const;
  /// Throws unless the directory says of itself that it is a layout that we know.
  std::string read_index() const;

  std::filesystem::path directory_;
};

}  // namespace obd::registry
