#include "dedupdb/sql_dedup_db.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "common/error.h"
#include "common/log.h"
#include "dedupdb/waiting.h"

namespace obd::dedupdb {
namespace {

constexpr size_t kColumnBytes = 255;

/// The reference convertor's keys are bare digests, so that this tells its rows from ours.
constexpr const char* kIsOurs = "LIKE '%+%'";

void check_text(const char* what, const std::string& text) {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7F; };
  if (text.empty() || text.size() > kColumnBytes || std::any_of(text.begin(), text.end(), is_control)) {
    throw DbError(
        fmt::format("a {} of {} bytes does not fit the database: it takes 1 to {} bytes without "
                    "control characters",
                    what, text.size(), kColumnBytes));
  }
}

void check_place(const Place& place) {
  check_text("host", place.host);
  check_text("repository name", place.repo);
}

int64_t to_column(uint64_t size) {
  OBD_CHECK(size <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  return static_cast<int64_t>(size);
}

uint64_t to_count(const std::string& text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// Columns as TableSchema::columns() has them.
Row to_row(const TableSchema& schema, const TextRow& values) {
  const size_t digest = schema.has_media_type ? 4 : 3;
  Row row{.table = schema.table,
          .place = {.host = values[0], .repo = values[1]},
          .key = values[2],
          .digest = values[digest]};
  if (schema.has_media_type) row.media_type = values[3];
  const std::string& size = values[digest + 1];
  std::from_chars(size.data(), size.data() + size.size(), row.size);
  return row;
}

std::vector<std::string> key_values(const TableSchema& schema, const Row& row) {
  std::vector<std::string> values = {row.place.host, row.place.repo, row.key};
  if (schema.has_media_type) values.push_back(row.media_type);
  return values;
}

Parameters key_parameters(const TableSchema& schema, const Row& row) {
  const std::vector<std::string> values = key_values(schema, row);
  return {values.begin(), values.end()};
}

/// MySQL's default collations take other letters for equal; a repository's name is its bytes.
bool matches(const Row& row, const RowFilter& filter) {
  return (filter.host.empty() || row.place.host == filter.host) &&
         (filter.repo.empty() || row.place.repo == filter.repo);
}

bool is_usable(const Row& row) {
  if (Digest::is_valid(row.digest) && row.size >= 0) return true;
  log::warn("dedup database: a row for {} is malformed and not used", row.key);
  return false;
}

}  // namespace

SqlDedupDb::Statements::Statements(const TableSchema& table, const Backend& backend) : schema(table) {
  const std::vector<std::string> key = schema.primary_key();
  const std::vector<std::string> columns = schema.columns();
  const std::string selected = fmt::format("SELECT {} FROM {}", fmt::join(columns, ", "), schema.name);
  const std::string same_key = fmt::format("{} = ?", fmt::join(key, " = ? AND "));
  find = fmt::format("{} WHERE host = ? AND {} = ?{} ORDER BY (repo = ?) DESC, repo LIMIT {}", selected,
                     schema.key_column, schema.has_media_type ? " AND mediatype = ?" : "", kMaxRecords);
  put = fmt::format("INSERT INTO {} ({}) VALUES ({}) {}", schema.name, fmt::join(columns, ", "),
                    fmt::join(std::vector<const char*>(columns.size(), "?"), ", "),
                    backend.on_conflict(key, columns));
  remove = fmt::format("DELETE FROM {} WHERE {} AND {} = ?", schema.name, same_key, schema.digest_column);
  count = fmt::format("SELECT COUNT(*), COUNT(CASE WHEN {} {} THEN 1 END) FROM {}", schema.key_column,
                      kIsOurs, schema.name);
  places = fmt::format(
      "SELECT COUNT(DISTINCT host), COUNT(*) FROM (SELECT DISTINCT host, repo FROM {} WHERE {} {}) AS places",
      schema.name, schema.key_column, kIsOurs);
  page = fmt::format("{} WHERE {} {} AND ({})", selected, schema.key_column, kIsOurs, backend.behind(key));
}

SqlDedupDb::SqlDedupDb(std::unique_ptr<Backend> backend, const RetryPolicy& policy)
    : backend_(std::move(backend)),
      policy_(policy),
      pool_(*backend_),
      layers_(schema_of(Table::kLayers), *backend_),
      manifests_(schema_of(Table::kManifests), *backend_) {}

template <class Attempt>
auto SqlDedupDb::with_retries(const char* what, const std::stop_token& stop, Attempt attempt) {
  Retries retries(policy_, stop);
  const auto context = [&] { return fmt::format("dedup database {}: {}", name(), what); };
  for (;;) {
    if (stop.stop_requested()) throw Cancelled();
    try {
      return attempt();
    } catch (const TransientDbError& error) {
      pool_.forget_all();
      if (!retries.wait_after(error)) {
        throw DbError(fmt::format("{}: {} (tried {} times)", context(), error.what(), retries.failures()));
      }
    } catch (DbError& error) {
      error.add_context(context());
      throw;
    }
  }
}

template <class Work>
auto SqlDedupDb::run(const char* what, const std::stop_token& stop, Work work) {
  return with_retries(what, stop, [&] {
    const std::unique_ptr<SessionPool::Loan> loan = pool_.take(stop);
    if constexpr (std::is_void_v<decltype(work(**loan))>) {
      work(**loan);
      loan->give_back();
    } else {
      auto result = work(**loan);
      loan->give_back();
      return result;
    }
  });
}

template <class Work>
auto SqlDedupDb::run_existing(const char* what, const std::stop_token& stop, Work work) {
  return with_retries(what, stop, [&] {
    const std::unique_ptr<Session> session = backend_->connect_existing();
    return work(session.get());
  });
}

std::vector<Row> SqlDedupDb::find(Table table, const Place& place, const Key& key,
                                  const std::string& media_type, const std::stop_token& stop) {
  check_place(place);
  const Statements& sql = statements(table);
  const std::string wanted = key.text();
  Parameters parameters = {place.host, wanted};
  if (sql.schema.has_media_type) parameters.emplace_back(media_type);
  parameters.emplace_back(place.repo);
  const auto found =
      run("looking up", stop, [&](Session& session) { return session.query(sql.find, parameters); });
  std::vector<Row> rows;
  for (const TextRow& values : found) {
    Row row = to_row(sql.schema, values);
    const bool same = row.place.host == place.host && row.key == wanted && row.media_type == media_type;
    if (same && is_usable(row)) rows.push_back(std::move(row));
  }
  std::stable_partition(rows.begin(), rows.end(),
                        [&](const Row& row) { return row.place.repo == place.repo; });
  return rows;
}

void SqlDedupDb::put(const Row& row, const std::stop_token& stop) {
  check_place(row.place);
  const Statements& sql = statements(row.table);
  Parameters parameters = key_parameters(sql.schema, row);
  parameters.emplace_back(row.digest);
  parameters.emplace_back(row.size);
  run("recording", stop, [&](Session& session) {
    session.begin();
    session.execute(sql.put, parameters);
    session.commit();
  });
}

void SqlDedupDb::remove(const Row& row, const std::stop_token& stop) {
  check_place(row.place);
  const Statements& sql = statements(row.table);
  Parameters parameters = key_parameters(sql.schema, row);
  parameters.emplace_back(row.digest);
  run("removing", stop, [&](Session& session) {
    session.begin();
    session.execute(sql.remove, parameters);
    session.commit();
  });
}

std::vector<LayerRecord> SqlDedupDb::find_layers(const Place& place, const Key& key, std::stop_token stop) {
  std::vector<LayerRecord> records;
  for (Row& row : find(Table::kLayers, place, key, "", stop)) {
    records.push_back(
        {std::move(row.place.repo), Digest::parse(row.digest), static_cast<uint64_t>(row.size)});
  }
  return records;
}

void SqlDedupDb::put_layer(const Place& place, const Key& key, const Digest& digest, uint64_t size,
                           std::stop_token stop) {
  put({.table = Table::kLayers,
       .place = place,
       .key = key.text(),
       .digest = digest.text(),
       .size = to_column(size)},
      stop);
}

void SqlDedupDb::remove_layer(const Place& place, const Key& key, const Digest& digest,
                              std::stop_token stop) {
  remove({.table = Table::kLayers, .place = place, .key = key.text(), .digest = digest.text()}, stop);
}

std::vector<ManifestRecord> SqlDedupDb::find_manifests(const Place& place, const Key& key,
                                                       const std::string& media_type, std::stop_token stop) {
  std::vector<ManifestRecord> records;
  for (Row& row : find(Table::kManifests, place, key, media_type, stop)) {
    records.push_back({std::move(row.place.repo), Digest::parse(row.digest), static_cast<uint64_t>(row.size),
                       std::move(row.media_type)});
  }
  return records;
}

void SqlDedupDb::put_manifest(const Place& place, const Key& key, const ManifestRecord& record,
                              std::stop_token stop) {
  check_text("media type", record.media_type);
  put({.table = Table::kManifests,
       .place = place,
       .key = key.text(),
       .digest = record.digest.text(),
       .size = to_column(record.size),
       .media_type = record.media_type},
      stop);
}

void SqlDedupDb::remove_manifest(const Place& place, const Key& key, const std::string& media_type,
                                 const Digest& digest, std::stop_token stop) {
  remove({.table = Table::kManifests,
          .place = place,
          .key = key.text(),
          .digest = digest.text(),
          .media_type = media_type},
         stop);
}

std::unique_ptr<Lease> SqlDedupDb::acquire(const std::string& lease, bool wait, std::stop_token stop) {
  return with_retries("waiting for a lease", stop, [&] { return backend_->acquire(lease, wait, stop); });
}

void SqlDedupDb::create_tables(std::stop_token stop) {
  run("making the tables", stop, [&](Session& session) {
    backend_->create_tables(session);
    for (const Table table : {Table::kLayers, Table::kManifests}) {
      const TableSchema& schema = schema_of(table);
      const std::string problem = shape_problem(schema, backend_->shape(session, schema.name));
      if (!problem.empty())
        throw DbError(fmt::format("the table {} cannot be used: {}", schema.name, problem));
    }
  });
}

TableStatus SqlDedupDb::table_status(Session* session, Table table) {
  const Statements& sql = statements(table);
  TableStatus status{.name = sql.schema.name};
  if (session == nullptr) return status;
  const TableShape shape = backend_->shape(*session, sql.schema.name);
  status.present = !shape.columns.empty();
  if (!status.present) return status;
  status.problem = shape_problem(sql.schema, shape);
  if (!status.problem.empty()) return status;
  const TextRow count = session->query(sql.count, {}).at(0);
  status.rows = to_count(count[1]);
  status.reference_rows = to_count(count[0]) - status.rows;
  const TextRow places = session->query(sql.places, {}).at(0);
  status.hosts = to_count(places[0]);
  status.repos = to_count(places[1]);
  return status;
}

Status SqlDedupDb::status(std::stop_token stop) {
  return run_existing("counting its rows", stop, [&](Session* session) {
    return Status{table_status(session, Table::kLayers), table_status(session, Table::kManifests)};
  });
}

template <class Use>
void SqlDedupDb::for_each_page(Table table, const RowFilter& filter, const std::stop_token& stop, Use use) {
  const Statements& sql = statements(table);
  std::string text = sql.page;
  if (!filter.host.empty()) text += " AND host = ?";
  if (!filter.repo.empty()) text += " AND repo = ?";
  text += fmt::format(" ORDER BY {} LIMIT {}", fmt::join(sql.schema.primary_key(), ", "), kPruneBatch);
  std::vector<std::string> position(sql.schema.primary_key().size());
  for (bool more = true; more;) {
    Parameters parameters = backend_->behind_parameters(position);
    if (!filter.host.empty()) parameters.emplace_back(filter.host);
    if (!filter.repo.empty()) parameters.emplace_back(filter.repo);
    const auto page = run_existing("listing", stop, [&](Session* session) {
      if (session == nullptr) throw DbError("there is none: make it with 'obdctl db init'");
      return session->query(text, parameters);
    });
    more = page.size() == kPruneBatch;
    std::vector<Row> rows;
    for (const TextRow& values : page) rows.push_back(to_row(sql.schema, values));
    if (!rows.empty()) position = key_values(sql.schema, rows.back());
    std::erase_if(rows, [&](const Row& row) { return !matches(row, filter); });
    use(rows);
  }
}

void SqlDedupDb::list(const RowFilter& filter, const std::function<void(const Row&)>& show,
                      std::stop_token stop) {
  for (const Table table : {Table::kLayers, Table::kManifests}) {
    for_each_page(table, filter, stop, [&](const std::vector<Row>& rows) {
      for (const Row& row : rows) show(row);
    });
  }
}

PruneTotals SqlDedupDb::prune(const RowFilter& filter, std::stop_token stop) {
  PruneTotals totals;
  for (const Table table : {Table::kLayers, Table::kManifests}) {
    const Statements& sql = statements(table);
    uint64_t& total = table == Table::kLayers ? totals.layers : totals.manifests;
    for_each_page(table, filter, stop, [&](const std::vector<Row>& rows) {
      if (rows.empty()) return;
      total += run("removing", stop, [&](Session& session) {
        session.begin();
        uint64_t removed = 0;
        for (const Row& row : rows) {
          Parameters parameters = key_parameters(sql.schema, row);
          parameters.emplace_back(row.digest);
          removed += session.execute(sql.remove, parameters);
        }
        session.commit();
        return removed;
      });
    });
  }
  return totals;
}

}  // namespace obd::dedupdb
