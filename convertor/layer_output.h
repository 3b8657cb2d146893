#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "blockfs/lsmt_layer.h"
#include "blockfs/lsmt_sink.h"
#include "blockfs/lsmt_writer.h"
#include "blockfs/zfile_writer.h"
#include "common/spool.h"

namespace obd::convertor {

/// The LSMT file of a layer that may still be being written: reading waits until it is there.
///
/// Threads: any.
/// Errors:  Cancelled when `stop` fires before it is there.
class DeferredSource final : public ByteSource {
 public:
  DeferredSource(std::string name, std::stop_token stop) : name_(std::move(name)), stop_(std::move(stop)) {}

  /// From now on reads go to `source`; may be called again with another holder of the same bytes.
  void set(std::shared_ptr<const ByteSource> source);
  uint64_t size() const override { return wait()->size(); }
  std::string name() const override { return name_; }

 protected:
  void do_read_at(uint64_t offset, std::span<std::byte> out) const override { wait()->read_at(offset, out); }

 private:
  std::shared_ptr<const ByteSource> wait() const;

  const std::string name_;
  const std::stop_token stop_;
  mutable std::mutex mutex_;  // guards source_
  mutable std::condition_variable_any ready_;
  std::shared_ptr<const ByteSource> source_;
};

/// A converted layer on its way out: tar(ZFile(LSMT)) in a spool.
///
/// Owns:    the spool; the pool outlives it.
/// Threads: one at a time: first whoever applies the layer, then, from seal() on, whoever publishes it.
class LayerOutput {
 public:
  struct Identity {
    uint64_t virtual_bytes = 0;
    std::string uuid;
    std::string parent_uuid;
  };

  LayerOutput(std::shared_ptr<Spool> spool, const blockfs::ZFileOptions& zfile, const Identity& identity,
              blockfs::WorkerPool& pool, std::stop_token stop);

  blockfs::DeltaSink& sink() { return sink_; }
  /// All is mapped. Returns the layer for use as the next one's ground: its data can be read after seal().
  std::shared_ptr<const blockfs::LsmtLayer> finish_index(std::string name);
  /// Completes the blob.
  void seal(const std::string& user_tag);
  const std::shared_ptr<Spool>& spool() const { return spool_; }
  /// After publication: read from the published blob, so that the spool's memory can go.
  void release_spool(std::shared_ptr<const ByteSource> published_blob);
  uint64_t uncompressed_bytes() const { return zfile_.size(); }

 private:
  std::shared_ptr<Spool> spool_;
  Identity identity_;
  std::stop_token stop_;
  blockfs::ZFileWriter zfile_;
  blockfs::LsmtWriter lsmt_;
  blockfs::LsmtSink sink_;
  std::shared_ptr<DeferredSource> deferred_;
};

}  // namespace obd::convertor
