#pragma once

#include <optional>
#include <stop_token>

#include "convertor/image_converter.h"

namespace obd::convertor {

/// The result of an earlier conversion of the same image with the same options, if the store knows one in the
/// target, or in another repository of its registry, and all of it can be proven: the store knows each layer
/// on top of the one below; what would be made of these layers today has the digest of that manifest; and the
/// topmost blob, looked at, says what it is too, which commits to the chain of digests below it.
///
/// All but its manifest is in the target then, mounted if need be, as far as we know: whether every lower
/// blob is still there, and whole, a registry is left to say when that is pushed.
std::optional<ConvertedImage> find_converted_image(const RunContext& context,
                                                   const registry::Manifest& source,
                                                   const std::stop_token& stop);

}  // namespace obd::convertor
