#pragma once

#include <optional>
#include <stop_token>

#include "convertor/image_converter.h"

namespace obd::convertor {

/// The result of an earlier conversion of the same image with the same options, if there is one in the target
/// and all of it can be proven: its manifest and config are, byte for byte, what would be made of its layers
/// today; the store knows each layer on top of the one below; and the topmost blob, looked at, says so too,
/// which commits to the chain of digests below it.
///
/// Whether every lower blob is still there, a registry is left to say when the manifest is pushed.
std::optional<ConvertedImage> find_converted_image(const RunContext& context,
                                                   const registry::Manifest& source,
                                                   const std::stop_token& stop);

}  // namespace obd::convertor
