#pragma once

#include <memory>
#include <optional>
#include <string>

#include "convertor/base_layer.h"
#include "convertor/held_records.h"
#include "convertor/layer_identity.h"
#include "convertor/reuse.h"
#include "convertor/source_image.h"
#include "convertor/workshop.h"

namespace obd::convertor {

/// What one run adds to the workshop, shared by its images.
struct RunContext {
  explicit RunContext(const Workshop& workshop);

  const Workshop& workshop;
  std::unique_ptr<BaseLayer> base;    // none where the filesystem is made in the bottom layer
  std::unique_ptr<HeldRecords> held;  // none where what is pushed stays at once
  std::unique_ptr<Reuse> reuse;       // none where nothing is reused

  /// The blob that the lowest layer of an image lies on; none where that is the disk itself.
  std::optional<Digest> base_digest() const {
    return base ? std::optional(base->blob().digest) : std::nullopt;
  }
  MediaTypes media_types() const { return workshop.options.oci ? MediaTypes::kOci : MediaTypes::kDocker; }
  /// `source`: the manifest or index that the result is made of.
  ResultForm form(const registry::Manifest& source) const;
  /// What the layer `index` of an image has to become on top of the blob `below` (none: on nothing).
  LayerIdentity identity(const SourceImage& image, size_t index, const std::optional<Digest>& below) const;
  /// All that shapes a layer, its source and the layers below it aside; and all that shapes a manifest.
  std::string layer_recipe() const;
  std::string manifest_recipe() const;
};

}  // namespace obd::convertor
