#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "convertor/image_converter.h"

namespace obd::convertor {

struct ConvertResult {
  Digest source_digest;
  Descriptor root;  // the manifest or index that was tagged
  bool is_index = false;
  std::vector<ConvertedImage> images;
  /// Index entries left out: attestations, and images that are converted already.
  std::vector<Digest> skipped;
  ReuseCounts reuse = {};
};

/// Converts what `reference` (a tag or a digest of the source) names, an image or an index of any depth up to
/// 4, and tags the result last of all. `tag`: none pushes by digest alone.
ConvertResult convert_reference(const Workshop& workshop, const std::string& reference,
                                const std::optional<std::string>& tag, std::stop_token stop);

}  // namespace obd::convertor
