#include "convertor/layer_output.h"

#include "blockfs/layer_blob.h"
#include "blockfs/tar_wrapper.h"
#include "common/error.h"

namespace obd::convertor {
namespace {

/// Leaves room for the tar header, which states the size of what follows.
std::shared_ptr<Spool> with_wrapper_header(std::shared_ptr<Spool> spool) {
  spool->append(std::array<std::byte, blockfs::kTarWrapperHeaderBytes>{});
  return spool;
}

/// The LSMT file within a layer's blob, opened when it is first read: mostly it never is.
class LazyLayerFile final : public ByteSource {
 public:
  explicit LazyLayerFile(std::shared_ptr<const ByteSource> blob) : blob_(std::move(blob)) {}
  uint64_t size() const override { return file().size(); }
  std::string name() const override { return blob_->name(); }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override { file().read_at(offset, out); }

 private:
  const ByteSource& file() const {
    std::call_once(opened_, [this] { file_ = blockfs::open_layer_blob(blob_).lsmt; });
    return *file_;
  }

  std::shared_ptr<const ByteSource> blob_;
  mutable std::once_flag opened_;
  mutable std::shared_ptr<const ByteSource> file_;
};

}  // namespace

void DeferredSource::set(std::shared_ptr<const ByteSource> source) {
  {
    const std::lock_guard lock(mutex_);
    source_ = std::move(source);
  }
  ready_.notify_all();
}

std::shared_ptr<const ByteSource> DeferredSource::wait() const {
  std::unique_lock lock(mutex_);
  if (!ready_.wait(lock, stop_, [this] { return source_ != nullptr; })) throw Cancelled();
  return source_;
}

LayerOutput::LayerOutput(std::shared_ptr<Spool> spool, const blockfs::ZFileOptions& zfile,
                         const Identity& identity, blockfs::WorkerPool& pool, std::stop_token stop)
    : spool_(with_wrapper_header(std::move(spool))),
      identity_(identity),
      stop_(stop),
      zfile_(*spool_, zfile, pool, std::move(stop)),
      lsmt_([this](std::span<const std::byte> data) { zfile_.append(data); }, identity.virtual_bytes,
            identity.uuid, identity.parent_uuid),
      sink_(lsmt_) {}

std::shared_ptr<const blockfs::LsmtLayer> LayerOutput::finish_index(std::string name) {
  std::vector<blockfs::LsmtEntry> index = lsmt_.finish_index();
  deferred_ = std::make_shared<DeferredSource>(std::move(name), stop_);
  blockfs::LsmtHeader header{.virtual_bytes = identity_.virtual_bytes,
                             .uuid = identity_.uuid,
                             .parent_uuid = identity_.parent_uuid,
                             .user_tag = {}};
  return std::make_shared<blockfs::LsmtLayer>(deferred_, std::move(header), std::move(index));
}

void LayerOutput::seal(const std::string& user_tag) {
  lsmt_.finish(user_tag);
  zfile_.finish();
  const uint64_t content = spool_->size() - blockfs::kTarWrapperHeaderBytes;
  spool_->append(blockfs::encode_tar_wrapper_end(content));
  spool_->overwrite(0, blockfs::encode_tar_wrapper_header(content));
  deferred_->set(std::make_shared<LazyLayerFile>(spool_));
}

void LayerOutput::release_spool(std::shared_ptr<const ByteSource> published_blob) {
  deferred_->set(std::make_shared<LazyLayerFile>(std::move(published_blob)));
  spool_.reset();
}

}  // namespace obd::convertor
