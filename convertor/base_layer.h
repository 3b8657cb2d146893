#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <stop_token>

#include "blockfs/layer_blob.h"
#include "convertor/image.h"
#include "registry/registry.h"

namespace obd::convertor {

/// The separate base layer that lies below all images of a run (--mkfs=false). In the registry it is what the
/// file is, in a tar wrapper if the file has none.
///
/// Threads: any.
class BaseLayer {
 public:
  /// Reads the file once, for its digest. Throws UsageError if it does not hold a disk of `vsize_gib`.
  BaseLayer(const std::filesystem::path& path, uint64_t vsize_gib);

  const registry::BlobId& blob() const { return blob_; }
  const std::shared_ptr<const blockfs::LsmtLayer>& layer() const { return opened_.layer; }
  const std::string& uuid() const { return opened_.layer->header().uuid; }

  /// Pushes it unless the repository has it; once, however often it is called.
  void publish(registry::Repository& target, const std::stop_token& stop);
  /// The blob.
  void write(ByteSink& out) const;

 private:
  std::shared_ptr<const ByteSource> file_;
  blockfs::LayerBlob opened_;
  registry::BlobId blob_;
  std::mutex mutex_;  // guards published_
  bool published_ = false;
};

}  // namespace obd::convertor
