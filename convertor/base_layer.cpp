#include "convertor/base_layer.h"

#include <fmt/format.h>

#include "blockfs/tar_wrapper.h"
#include "common/error.h"

namespace obd::convertor {
namespace {

/// What write() would write, digested.
class HashSink final : public ByteSink {
 public:
  void append(std::span<const std::byte> data) override {
    hash_.update(data);
    size_ += data.size();
  }
  void overwrite(uint64_t, std::span<const std::byte>) override { OBD_CHECK(false); }
  uint64_t size() const override { return size_; }
  registry::BlobId finish() { return {hash_.finish(), size_}; }

 private:
  Sha256 hash_;
  uint64_t size_ = 0;
};

}  // namespace

BaseLayer::BaseLayer(const std::filesystem::path& path, uint64_t vsize_gib)
    : file_(std::make_shared<FileSource>(path)), opened_(blockfs::open_layer_blob(file_)) {
  const uint64_t disk_gib = opened_.layer->header().virtual_bytes >> 30;
  if (opened_.layer->header().virtual_bytes != vsize_gib << 30) {
    throw UsageError(fmt::format("the base layer {} holds a disk of {} GiB, but --vsize is {}", file_->name(),
                                 disk_gib, vsize_gib));
  }
  HashSink sink;
  write(sink);
  blob_ = sink.finish();
}

void BaseLayer::write(ByteSink& out) const {
  if (!opened_.in_tar) out.append(blockfs::encode_tar_wrapper_header(file_->size()));
  copy_bytes(*file_, out);
  if (!opened_.in_tar) out.append(blockfs::encode_tar_wrapper_end(file_->size()));
}

void BaseLayer::publish(registry::Repository& target, const std::stop_token& stop) {
  const std::lock_guard lock(mutex_);
  if (published_) return;
  if (!target.has_blob(blob_, stop)) {
    std::shared_ptr<Spool> spool = target.new_spool();
    write(*spool);
    target.push_spool(std::move(spool), stop);
  }
  published_ = true;
}

}  // namespace obd::convertor
