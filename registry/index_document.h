#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"

namespace obd::registry {

/// What index.json says of one manifest.
struct LayoutEntry {
  Digest digest;
  uint64_t size = 0;  // bytes
  std::string media_type;
};

/// The two documents of an OCI image layout, as text: where they lie (a directory, an archive) is the
/// caller's business. `where` is named in messages.
///
/// Errors: DataError for a document that is malformed.
/// Source: OCI image layout 1.0.
namespace index_document {

/// About a hundred thousand tags.
inline constexpr uint64_t kMaxBytes = 32 << 20;
inline constexpr uint64_t kMaxMarkerBytes = 1 << 16;
/// Content of the file oci-layout.
inline constexpr std::string_view kMarker = "{\"imageLayoutVersion\":\"1.0.0\"}";

/// An index.json that lists nothing.
std::string empty();

/// Throws unless `marker`, the content of oci-layout, names a version that we know.
void check_marker(std::string_view marker, const std::string& where);

/// Empty if nothing has that tag; DataError if several manifests have it.
std::optional<LayoutEntry> look_up_tag(std::string_view index, const std::string& tag,
                                       const std::string& where);

/// Likewise, but throws IoError if nothing has that tag, naming some that are there.
LayoutEntry find_tag(std::string_view index, const std::string& tag, const std::string& where);

/// Empty if the manifest is not listed, which does not mean that it is not there.
std::optional<LayoutEntry> find_digest(std::string_view index, const Digest& digest,
                                       const std::string& where);

/// All that are listed, with a tag or without, each digest once. Other things than manifests may be among
/// them.
std::vector<LayoutEntry> entries(std::string_view index, const std::string& where);

/// `index` with one more manifest, which has no tag; the same if it is listed. Throws CapacityError if it
/// would exceed kMaxBytes.
std::string with_entry(std::string_view index, const LayoutEntry& entry, const std::string& where);

/// `index` with `tag` moved to `entry`. Everything else in it stays as it is, fields unknown to us too.
/// Throws as with_entry().
std::string with_tag(std::string_view index, const std::string& tag, const LayoutEntry& entry,
                     const std::string& where);

}  // namespace index_document

}  // namespace obd::registry
