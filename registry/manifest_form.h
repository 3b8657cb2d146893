#pragma once

#include <string>
#include <string_view>

namespace obd::registry {

/// The media type of a manifest or an index.
///
/// `declared`: what came beside the bytes (a Content-Type, a descriptor); empty or a general type such as
/// application/json if nothing did. A document whose own mediaType or whose shape contradicts it, or that is
/// a manifest and an index at once, is refused with DataError: two readers would see two images in it.
std::string manifest_media_type(std::string_view bytes, std::string_view declared, const std::string& what);

}  // namespace obd::registry
