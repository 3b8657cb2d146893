#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/error.h"

namespace obd::convertor {

/// What the cache in a registry says of one layer or one manifest; convertor/FORMAT.md, "Records".
struct CacheRecord {
  std::string key = {};         // dedupdb::Key::text()
  std::string media_type = {};  // of a manifest; empty: a layer
  Digest digest = {};           // of what was made
  uint64_t size = 0;            // bytes
  bool operator==(const CacheRecord&) const = default;
};

/// Most recently used first; no two records have the same key and media type.
using CacheRecords = std::vector<CacheRecord>;

/// The cache was written by a program that is newer than this one.
class CacheVersionError : public DataError {
 public:
  using DataError::DataError;
};

namespace cache_document {

inline constexpr uint64_t kVersion = 1;
/// Records beyond are dropped, the least recently used first.
inline constexpr size_t kMaxRecords = 4096;
/// What one record takes at most, so that a document stays far below registry::kMaxManifestBytes.
inline constexpr size_t kMaxRecordBytes = 384;

/// `where` is named in messages. Throws CacheVersionError, and DataError if any part of it is malformed. More
/// than kMaxRecords are read where they are there.
CacheRecords parse(std::string_view bytes, const std::string& where);
std::string print(const CacheRecords& records);

}  // namespace cache_document

/// What one run has to tell the cache, whatever that says by then.
///
/// Threads: one at a time.
class CacheChanges {
 public:
  /// In the target now.
  void made(const CacheRecord& record) { note(Kind::kMade, record); }
  /// Found, and therefore not to be dropped soon.
  void used(const CacheRecord& record);
  /// Found to be wrong.
  void gone(const CacheRecord& record) { note(Kind::kGone, record); }

  /// What `current`, together with these changes, says under that key.
  std::optional<CacheRecord> find(const CacheRecords& current, const std::string& key,
                                  const std::string& media_type) const;
  /// `current` with the changes, at most kMaxRecords. Doing it again changes nothing.
  CacheRecords applied_to(const CacheRecords& current) const;
  /// Whether `current` needs no writing. An order that is out of date does not matter until something that
  /// was used is in the half that will be dropped first.
  bool settled_in(const CacheRecords& current) const;

 private:
  enum class Kind { kMade, kUsed, kGone };
  struct Change {
    Kind kind;
    CacheRecord record;
    uint64_t number;  // counts up
  };
  using Name = std::pair<std::string, std::string>;  // key, media type

  void note(Kind kind, const CacheRecord& record);
  const Change* change_of(const CacheRecord& record) const;

  std::map<Name, Change> changes_;
  uint64_t next_ = 0;
};

}  // namespace obd::convertor
