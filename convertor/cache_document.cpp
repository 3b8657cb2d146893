#include "convertor/cache_document.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/json.h"
#include "convertor/image.h"
#include "dedupdb/record_store.h"

namespace obd::convertor {

namespace cache_document {
namespace {

static_assert(kMaxRecords * kMaxRecordBytes < registry::kMaxManifestBytes / 2);

uint64_t number_field(const Json& object, const char* name, const std::string& what) {
  const auto field = object.is_object() ? object.find(name) : object.end();
  const bool is_number = field != object.end() && field->is_number_unsigned();
  if (!is_number || field->get<uint64_t>() > INT64_MAX) {
    throw DataError(fmt::format("{}: '{}' is no number up to 2^63-1", what, name));
  }
  return field->get<uint64_t>();
}

CacheRecord parse_record(const Json& json, const std::string& what) {
  const std::string digest = text_field(json, "digest");
  if (!Digest::is_valid(digest)) throw DataError(fmt::format("{}: its digest is malformed", what));
  CacheRecord record{.key = text_field(json, "key"),
                     .media_type = text_field(json, "mediaType"),
                     .digest = Digest::parse(digest),
                     .size = number_field(json, "size", what)};
  if (!dedupdb::Key::is_valid(record.key)) throw DataError(fmt::format("{}: its key is malformed", what));
  if (!record.media_type.empty() && manifest_kind(record.media_type) != ManifestKind::kImage) {
    throw DataError(fmt::format("{}: its media type is no image manifest's", what));
  }
  return record;
}

std::string print_record(const CacheRecord& record) {
  Json json = {{"key", record.key}, {"digest", record.digest.text()}, {"size", record.size}};
  if (!record.media_type.empty()) json["mediaType"] = record.media_type;
  return json.dump();
}

}  // namespace

CacheRecords parse(std::string_view bytes, const std::string& where) {
  const Json document = parse_json(bytes, where);
  const uint64_t version = number_field(document, "version", where);
  if (version != kVersion) {
    throw CacheVersionError(
        fmt::format("{}: its format has version {}, and this program knows {}", where, version, kVersion));
  }
  const auto list = document.find("records");
  if (list == document.end() || !list->is_array())
    throw DataError(fmt::format("{}: it has no list of records", where));
  CacheRecords records;
  std::set<std::pair<std::string, std::string>> seen;
  for (const Json& entry : *list) {
    CacheRecord record = parse_record(entry, fmt::format("{}, record {}", where, records.size() + 1));
    if (!seen.emplace(record.key, record.media_type).second) {
      throw DataError(fmt::format("{}: two records have the key {}", where, record.key));
    }
    records.push_back(std::move(record));
  }
  return records;
}

std::string print(const CacheRecords& records) {
  std::string text = fmt::format("{{\"version\":{},\"records\":[", kVersion);
  for (const CacheRecord& record : records) {
    text += &record == &records.front() ? "\n" : ",\n";
    text += print_record(record);
  }
  return text + "\n]}\n";
}

}  // namespace cache_document

void CacheChanges::note(Kind kind, const CacheRecord& record) {
  changes_.insert_or_assign({record.key, record.media_type}, Change{kind, record, next_++});
}

void CacheChanges::used(const CacheRecord& record) {
  const Change* change = change_of(record);
  note(change != nullptr && change->kind == Kind::kMade ? Kind::kMade : Kind::kUsed, record);
}

const CacheChanges::Change* CacheChanges::change_of(const CacheRecord& record) const {
  const auto at = changes_.find({record.key, record.media_type});
  return at == changes_.end() ? nullptr : &at->second;
}

std::optional<CacheRecord> CacheChanges::find(const CacheRecords& current, const std::string& key,
                                              const std::string& media_type) const {
  const auto change = changes_.find({key, media_type});
  if (change != changes_.end() && change->second.kind != Kind::kGone) return change->second.record;
  const auto at = std::find_if(current.begin(), current.end(), [&](const CacheRecord& record) {
    return record.key == key && record.media_type == media_type;
  });
  if (at == current.end()) return std::nullopt;
  if (change != changes_.end() && change->second.record.digest == at->digest) return std::nullopt;
  return *at;
}

CacheRecords CacheChanges::applied_to(const CacheRecords& current) const {
  std::vector<const Change*> first;  // what goes in front of the others
  CacheRecords rest;
  for (const CacheRecord& record : current) {
    const Change* change = change_of(record);
    if (change == nullptr || (change->kind != Kind::kMade && change->record.digest != record.digest)) {
      rest.push_back(record);
    } else if (change->kind == Kind::kUsed) {
      first.push_back(change);
    }
  }
  for (const auto& [name, change] : changes_) {
    if (change.kind == Kind::kMade) first.push_back(&change);
  }
  std::sort(first.begin(), first.end(),
            [](const Change* a, const Change* b) { return a->number > b->number; });
  CacheRecords result;
  for (const Change* change : first) result.push_back(change->record);
  result.insert(result.end(), rest.begin(), rest.end());
  if (result.size() > cache_document::kMaxRecords) result.resize(cache_document::kMaxRecords);
  return result;
}

bool CacheChanges::settled_in(const CacheRecords& current) const {
  const CacheRecords applied = applied_to(current);
  if (applied == current) return true;
  for (size_t i = cache_document::kMaxRecords / 2; i < current.size(); ++i) {
    const Change* change = change_of(current[i]);
    if (change != nullptr && change->kind != Kind::kGone && change->record == current[i]) return false;
  }
  const auto sorted = [](CacheRecords records) {
    std::sort(records.begin(), records.end(), [](const CacheRecord& a, const CacheRecord& b) {
      return std::tie(a.key, a.media_type) < std::tie(b.key, b.media_type);
    });
    return records;
  };
  return sorted(applied) == sorted(current);
}

}  // namespace obd::convertor
