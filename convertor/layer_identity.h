#pragma once

#include <string>

#include "common/digest.h"

namespace obd::convertor {

/// What a converted layer is: two layers with the same identity have the same bytes. All of it but the source
/// digest stands in the layer's LSMT trailer.
struct LayerIdentity {
  /// Of the source layer as it is stored. Whoever makes an image writes the diff IDs, and so the chain ID, as
  /// he likes: only a conversion has proven that this blob has that diff ID.
  Digest source_digest;
  Digest chain_id;      // of the source layer; its UUID is made of it
  std::string lineage;  // what it was made with, and the blob below it: the user_tag
  uint64_t virtual_bytes = 0;
  std::string parent_uuid;  // empty for the lowest layer of all
};

}  // namespace obd::convertor
