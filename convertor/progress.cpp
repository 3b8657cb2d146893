#include "convertor/progress.h"

namespace obd::convertor {

LayerProgress& ProgressBoard::add(std::string image, size_t number, std::string digest,
                                  uint64_t total_bytes) {
  const std::lock_guard lock(mutex_);
  LayerProgress& layer = layers_.emplace_back();
  layer.image = std::move(image);
  layer.number = number;
  layer.digest = std::move(digest);
  layer.total_bytes = total_bytes;
  return layer;
}

std::vector<const LayerProgress*> ProgressBoard::layers() const {
  const std::lock_guard lock(mutex_);
  std::vector<const LayerProgress*> all;
  for (const LayerProgress& layer : layers_) {
    if (!layer.is_given_up) all.push_back(&layer);
  }
  return all;
}

}  // namespace obd::convertor
