#include "blockfs/layer_blob.h"

#include <fmt/format.h>

#include <algorithm>

#include "blockfs/tar_wrapper.h"
#include "common/error.h"

namespace obd::blockfs {
namespace {

std::vector<std::byte> first_bytes(const ByteSource& source) {
  std::vector<std::byte> bytes(std::min<uint64_t>(source.size(), 32));
  source.read_at(0, bytes);
  return bytes;
}

}  // namespace

LayerBlob open_layer_blob(std::shared_ptr<const ByteSource> blob) {
  LayerBlob opened;
  std::shared_ptr<const ByteSource> content = blob;
  if (auto member = open_tar_wrapper(blob)) {
    opened.in_tar = true;
    content = std::move(member);
  }
  if (ZFileHeader::has_magic(first_bytes(*content))) {
    opened.zfile = std::make_shared<ZFileReader>(content);
    content = opened.zfile;
  }
  if (!LsmtHeader::has_magic(first_bytes(*content))) {
    throw DataError(fmt::format("{}: not an overlaybd layer: neither ZFile nor LSMT magic at the start{}",
                                blob->name(), opened.in_tar ? " of its tar member" : ""));
  }
  opened.lsmt = content;
  opened.layer = std::make_shared<LsmtLayer>(content);
  return opened;
}

}  // namespace obd::blockfs
