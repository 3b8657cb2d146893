#pragma once

#include <string>
#include <string_view>

#include "common/digest.h"

namespace obd::registry {

struct HttpResponse;

/// The media type of a manifest or an index.
///
/// `declared`: what came beside the bytes (a Content-Type, a descriptor); empty or a general type such as
/// application/json if nothing did. A document whose own mediaType or whose shape contradicts it, or that is
/// a manifest and an index at once, is refused with DataError: two readers would see two images in it.
std::string manifest_media_type(std::string_view bytes, std::string_view declared, const std::string& what);

/// Throws DataError for content that is not what was asked for, if that was a digest, or not what the
/// registry says that it sends (Docker-Content-Digest).
void check_manifest_digest(const Digest& found, const std::string& reference, const HttpResponse& response);

}  // namespace obd::registry
