#include "tests/unit/convertor/farm.h"

#include "convertor/cache_artifact.h"

namespace obd::convertor {
namespace {

constexpr const char* kCacheTag = "cache";

class DatabaseMemory final : public Memory {
 public:
  explicit DatabaseMemory(const std::filesystem::path& directory)
      : options_{.type = "sqlite", .location = (directory / "obd.db").string()},
        db_(dedupdb::open_dedup_db(options_)) {
    db_->create_tables({});
  }
  std::unique_ptr<dedupdb::RecordStore> open() override { return dedupdb::open_dedup_db(options_); }
  std::vector<dedupdb::Row> rows() override {
    std::vector<dedupdb::Row> rows;
    db_->list({}, [&](const dedupdb::Row& row) { rows.push_back(row); }, {});
    return rows;
  }
  void put(const dedupdb::Row& row) override {
    const Digest digest = Digest::parse(row.digest);
    const auto size = static_cast<uint64_t>(row.size);
    if (row.table == dedupdb::Table::kLayers) return db_->put_layer(row.place, key_of(row), digest, size, {});
    db_->put_manifest(row.place, key_of(row),
                      {.repo = {}, .digest = digest, .size = size, .media_type = row.media_type}, {});
  }
  void remove(const dedupdb::Row& row) override {
    const Digest digest = Digest::parse(row.digest);
    if (row.table == dedupdb::Table::kLayers) return db_->remove_layer(row.place, key_of(row), digest, {});
    db_->remove_manifest(row.place, key_of(row), row.media_type, digest, {});
  }

 private:
  static dedupdb::Key key_of(const dedupdb::Row& row) {
    const size_t plus = row.key.find('+');
    return {Digest::parse(row.key.substr(0, plus)), row.key.substr(plus + 1)};
  }

  const dedupdb::Options options_;
  std::unique_ptr<dedupdb::DedupDb> db_;
};

class CacheMemory final : public Memory {
 public:
  explicit CacheMemory(registry::Repository& target) : target_(target) {}
  std::unique_ptr<dedupdb::RecordStore> open() override {
    return std::make_unique<CacheStore>(target_, CacheStore::Options{.tag = kCacheTag});
  }
  std::vector<dedupdb::Row> rows() override {
    std::vector<dedupdb::Row> rows;
    for (const CacheRecord& record : read()) {
      rows.push_back(
          {.table = record.media_type.empty() ? dedupdb::Table::kLayers : dedupdb::Table::kManifests,
           .place = {},
           .key = record.key,
           .digest = record.digest.text(),
           .size = static_cast<int64_t>(record.size),
           .media_type = record.media_type});
    }
    return rows;
  }
  void put(const dedupdb::Row& row) override {
    CacheRecords records = without(row);
    records.push_back({row.key, row.media_type, Digest::parse(row.digest), static_cast<uint64_t>(row.size)});
    write(records);
  }
  void remove(const dedupdb::Row& row) override { write(without(row)); }

 private:
  CacheRecords read() {
    const auto manifest = registry::find_manifest(target_, kCacheTag, {});
    return manifest ? pull_cache(target_, *manifest, {}) : CacheRecords();
  }
  CacheRecords without(const dedupdb::Row& row) {
    CacheRecords records = read();
    std::erase_if(records, [&](const CacheRecord& record) {
      return record.key == row.key && record.media_type == row.media_type;
    });
    return records;
  }
  void write(const CacheRecords& records) {
    target_.push_manifest(kCacheTag, std::string(registry::media_type::kOciManifest),
                          push_cache_blobs(target_, records, {}), {});
  }

  registry::Repository& target_;
};

}  // namespace

std::unique_ptr<Memory> make_database_memory(const std::filesystem::path& directory) {
  return std::make_unique<DatabaseMemory>(directory);
}

std::unique_ptr<Memory> make_cache_memory(registry::Repository& target) {
  return std::make_unique<CacheMemory>(target);
}

std::string name_of(const testing::TestParamInfo<MemoryKind>& info) {
  return info.param == MemoryKind::kDatabase ? "Database" : "Cache";
}

Farm::Farm(LayoutImages& source, MemoryKind kind)
    : source_(source),
      memory_(kind == MemoryKind::kDatabase ? make_database_memory(work_.path())
                                            : make_cache_memory(target_.repository())) {}

ConvertResult Farm::convert(const std::string& reference, const ConvertOptions& options) {
  return convert(*memory_->open(), reference, options);
}

ConvertResult Farm::convert(dedupdb::RecordStore& records, const std::string& reference,
                            ConvertOptions options) {
  return convertor::convert({.source = source_,
                             .target = target_,
                             .work_directory = work_.path() / "work",
                             .reference = reference,
                             .options = std::move(options),
                             .records = &records});
}

std::vector<dedupdb::Row> Farm::rows(dedupdb::Table table) {
  std::vector<dedupdb::Row> rows = memory_->rows();
  std::erase_if(rows, [&](const dedupdb::Row& row) { return row.table != table; });
  return rows;
}

void Farm::put(const dedupdb::Row& row, const Digest& digest, uint64_t size) {
  dedupdb::Row changed = row;
  changed.digest = digest.text();
  changed.size = static_cast<int64_t>(size);
  memory_->put(changed);
}

void Farm::forget_manifests() {
  for (const dedupdb::Row& row : rows(dedupdb::Table::kManifests)) memory_->remove(row);
}

}  // namespace obd::convertor
