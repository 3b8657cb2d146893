#include "baselayers/base_layer.h"

#include <fmt/format.h>

#include "blockfs/ext4/filesystem.h"
#include "blockfs/ext4/layer_applier.h"
#include "blockfs/layer_stack.h"
#include "blockfs/lsmt_sink.h"
#include "blockfs/tar_wrapper.h"
#include "blockfs/worker_pool.h"
#include "common/digest.h"

namespace obd::baselayers {
namespace {

class EmptyStream final : public blockfs::ChunkStream {
 public:
  std::span<const std::byte> next() override { return {}; }
};

std::string uuid_of(uint64_t vsize_gib) {
  return blockfs::lsmt_uuid(Digest::of(fmt::format("overlaybd-convertor base layer ext4 {}", vsize_gib)));
}

}  // namespace

void write_base_layer(ByteSink& out, uint64_t vsize_gib, const blockfs::ZFileOptions& options) {
  constexpr uint64_t kMetadataBudget = 512 << 20;
  const uint64_t disk_bytes = vsize_gib << 30;
  const uint64_t start = out.size();
  out.append(std::array<std::byte, blockfs::kTarWrapperHeaderBytes>{});

  blockfs::WorkerPool pool(1);
  blockfs::ZFileWriter zfile(out, options, pool, {});
  blockfs::LsmtWriter lsmt([&](std::span<const std::byte> data) { zfile.append(data); }, disk_bytes,
                           uuid_of(vsize_gib), "");
  blockfs::LsmtSink sink(lsmt);
  const blockfs::LayerStack nothing_below;
  blockfs::MetadataStore store(nothing_below, kMetadataBudget);
  const auto filesystem = blockfs::Filesystem::create(store, disk_bytes);
  EmptyStream empty;
  blockfs::LayerTar no_members("base layer", empty);
  blockfs::apply_layer(*filesystem, store, no_members, sink);
  lsmt.finish_index();
  lsmt.finish(fmt::format("overlaybd-convertor/1 ext4 base vsize={}", vsize_gib));
  zfile.finish();

  const uint64_t content = out.size() - start - blockfs::kTarWrapperHeaderBytes;
  out.append(blockfs::encode_tar_wrapper_end(content));
  out.overwrite(start, blockfs::encode_tar_wrapper_header(content));
}

}  // namespace obd::baselayers
