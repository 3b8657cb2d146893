#include "dedupdb/schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace obd::dedupdb {
namespace {

/// "varchar(255)", or longer.
bool holds_text(std::string_view type) {
  constexpr std::string_view kStart = "varchar(";
  unsigned length = 0;
  if (!type.starts_with(kStart)) return false;
  std::from_chars(type.data() + kStart.size(), type.data() + type.size(), length);
  return length >= 255;
}

}  // namespace

std::vector<std::string> TableSchema::primary_key() const {
  std::vector<std::string> key = {"host", "repo", key_column};
  if (has_media_type) key.emplace_back("mediatype");
  return key;
}

std::vector<std::string> TableSchema::columns() const {
  std::vector<std::string> all = primary_key();
  all.push_back(digest_column);
  all.emplace_back("data_size");
  return all;
}

const TableSchema& schema_of(Table table) {
  static const TableSchema layers = {Table::kLayers, "overlaybd_layers", "chain_id", "data_digest", false};
  static const TableSchema manifests = {Table::kManifests, "overlaybd_manifests", "src_digest", "out_digest",
                                        true};
  return table == Table::kLayers ? layers : manifests;
}

const std::vector<std::string>& mysql_create_statements() {
  static const std::vector<std::string> statements = {
      "CREATE TABLE IF NOT EXISTS `overlaybd_layers` ("
      "`host` varchar(255) NOT NULL, "
      "`repo` varchar(255) NOT NULL, "
      "`chain_id` varchar(255) NOT NULL COMMENT 'chain-id of the normal image layer', "
      "`data_digest` varchar(255) NOT NULL COMMENT 'digest of overlaybd layer', "
      "`data_size` bigint(20) NOT NULL COMMENT 'size of overlaybd layer', "
      "PRIMARY KEY (`host`,`repo`,`chain_id`), "
      "KEY `index_registry_chainId` (`host`,`chain_id`) USING BTREE"
      ") DEFAULT CHARSET=utf8",
      "CREATE TABLE IF NOT EXISTS `overlaybd_manifests` ("
      "`host` varchar(255) NOT NULL, "
      "`repo` varchar(255) NOT NULL, "
      "`src_digest` varchar(255) NOT NULL COMMENT 'digest of the normal image manifest', "
      "`out_digest` varchar(255) NOT NULL COMMENT 'digest of overlaybd manifest', "
      "`data_size` bigint(20) NOT NULL COMMENT 'size of overlaybd manifest', "
      "`mediatype` varchar(255) NOT NULL COMMENT 'mediatype of the converted image manifest', "
      "PRIMARY KEY (`host`,`repo`,`src_digest`, `mediatype`), "
      "KEY `index_registry_src_digest` (`host`,`src_digest`) USING BTREE"
      ") DEFAULT CHARSET=utf8"};
  return statements;
}

const std::vector<std::string>& sqlite_create_statements() {
  static const std::vector<std::string> statements = {
      "CREATE TABLE IF NOT EXISTS overlaybd_layers ("
      "host varchar(255) NOT NULL, repo varchar(255) NOT NULL, chain_id varchar(255) NOT NULL, "
      "data_digest varchar(255) NOT NULL, data_size bigint(20) NOT NULL, "
      "PRIMARY KEY (host, repo, chain_id)) WITHOUT ROWID",
      "CREATE INDEX IF NOT EXISTS index_registry_chainId ON overlaybd_layers (host, chain_id)",
      "CREATE TABLE IF NOT EXISTS overlaybd_manifests ("
      "host varchar(255) NOT NULL, repo varchar(255) NOT NULL, src_digest varchar(255) NOT NULL, "
      "out_digest varchar(255) NOT NULL, data_size bigint(20) NOT NULL, mediatype varchar(255) NOT NULL, "
      "PRIMARY KEY (host, repo, src_digest, mediatype)) WITHOUT ROWID",
      "CREATE INDEX IF NOT EXISTS index_registry_src_digest ON overlaybd_manifests (host, src_digest)"};
  return statements;
}

std::string shape_problem(const TableSchema& schema, const TableShape& shape) {
  for (const std::string& name : schema.columns()) {
    const auto found = std::find_if(shape.columns.begin(), shape.columns.end(),
                                    [&](const Column& column) { return column.name == name; });
    if (found == shape.columns.end()) return fmt::format("it has no column '{}'", name);
    const bool fits = name == "data_size" ? found->type.starts_with("bigint") : holds_text(found->type);
    if (!fits) return fmt::format("its column '{}' is a {}", name, found->type);
  }
  if (shape.primary_key != schema.primary_key()) {
    return fmt::format("its primary key is ({}), not ({})", fmt::join(shape.primary_key, ", "),
                       fmt::join(schema.primary_key(), ", "));
  }
  return {};
}

}  // namespace obd::dedupdb
