#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "convertor/cache_store.h"
#include "convertor/tag_converter.h"
#include "dedupdb/dedup_db.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/convertor/layout_image.h"

namespace obd::convertor {

/// What a farm of converters remembers, and a way around the converters to what it says.
class Memory {
 public:
  virtual ~Memory() = default;
  /// As one run of a converter has it.
  virtual std::unique_ptr<dedupdb::RecordStore> open() = 0;
  virtual std::vector<dedupdb::Row> rows() = 0;
  /// Adds the row, or makes the one with its key say that.
  virtual void put(const dedupdb::Row& row) = 0;
  virtual void remove(const dedupdb::Row& row) = 0;
};

/// A database in a file.
std::unique_ptr<Memory> make_database_memory(const std::filesystem::path& directory);
/// A tag of the repository.
std::unique_ptr<Memory> make_cache_memory(registry::Repository& target);

enum class MemoryKind { kDatabase, kCache };
std::string name_of(const testing::TestParamInfo<MemoryKind>& info);

/// A memory, and a target whose content it describes.
class Farm {
 public:
  Farm(LayoutImages& source, MemoryKind kind);

  /// A run of its own.
  ConvertResult convert(const std::string& reference, const ConvertOptions& options = {});
  ConvertResult convert(dedupdb::RecordStore& records, const std::string& reference,
                        ConvertOptions options = {});

  Memory& memory() { return *memory_; }
  LayoutImages& target() { return target_; }
  std::vector<dedupdb::Row> rows(dedupdb::Table table);
  /// Makes a row say something else.
  void put(const dedupdb::Row& row, const Digest& digest, uint64_t size);
  void forget_manifests();

 private:
  LayoutImages& source_;
  test::TemporaryDirectory work_;
  LayoutImages target_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace obd::convertor
