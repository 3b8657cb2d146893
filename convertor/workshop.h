#pragma once

#include "blockfs/worker_pool.h"
#include "convertor/options.h"
#include "convertor/progress.h"
#include "convertor/source_image.h"
#include "dedupdb/record_store.h"
#include "registry/registry.h"

namespace obd::convertor {

/// Everything that the images of one run share. All of it outlives the conversion.
struct Workshop {
  registry::Repository& source;
  registry::Repository& target;
  blockfs::WorkerPool& pool;
  ProgressBoard& progress;
  ConvertOptions options;
  /// What earlier runs made is found here, and what this one makes is recorded; null: nothing is reused.
  dedupdb::RecordStore* records = nullptr;
  /// Reads foreign layers; null: they are refused.
  registry::ForeignBlobs* foreign = nullptr;

  SourcePlace source_place() const { return {source, foreign}; }
};

}  // namespace obd::convertor
