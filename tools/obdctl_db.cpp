#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <ostream>

#include "common/error.h"
#include "dedupdb/dedup_db.h"
#include "tools/db_options.h"
#include "tools/obdctl.h"

namespace obd::tools {
namespace {

using dedupdb::DedupDb;
using dedupdb::RowFilter;
using Json = nlohmann::ordered_json;

constexpr const char* kExamples =
    "  obdctl db status --db-str /var/lib/obd/dedup.db\n"
    "  obdctl db init --db-type mysql --db-str-file /etc/obd/dedup-dsn\n"
    "  obdctl db prune --db-str /var/lib/obd/dedup.db --repo acme/app --dry-run\n";

constexpr std::array kActions = {"init", "status", "list", "prune"};

class DbCommand {
 public:
  DbCommand(DedupDb& db, const cxxopts::ParseResult& parsed, Run& run)
      : db_(db), parsed_(parsed), run_(run) {}

  ExitCode run(const std::string& action) {
    read_filter(action);
    if (action == "init") return init();
    if (action == "status") return status();
    return action == "list" ? list() : prune();
  }

 private:
  std::string filter_text(const char* option) const {
    if (parsed_.count(option) == 0) return {};
    auto text = parsed_[option].as<std::string>();
    if (text.empty()) throw UsageError(fmt::format("--{} is empty", option));
    return text;
  }

  void read_filter(const std::string& action) {
    filter_ = {.host = filter_text("host"), .repo = filter_text("repo")};
    const bool any = !filter_.host.empty() || !filter_.repo.empty();
    const bool all = parsed_.count("all") != 0;
    if (any && action != "list" && action != "prune") {
      throw UsageError("--host and --repo belong to 'obdctl db list' and 'obdctl db prune'");
    }
    if (action != "prune") {
      if (all || parsed_.count("dry-run") != 0) {
        throw UsageError("--all and --dry-run belong to 'obdctl db prune'");
      }
    } else if (any == all) {
      throw UsageError(any ? "--all goes without --host and --repo"
                           : "which rows? Give --host or --repo, or --all for every row of ours");
    }
  }

  void print(const Json& object) {
    // A row may hold any bytes.
    run_.io.out << object.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }

  ExitCode init() {
    db_.create_tables(run_.stop());
    if (run_.json) {
      print({{"type", "summary"}, {"database", db_.name()}});
    } else {
      run_.io.out << fmt::format("{}: its tables are there\n", printable(db_.name()));
    }
    return ExitCode::kSuccess;
  }

  ExitCode status() {
    const dedupdb::Status status = db_.status(run_.stop());
    if (!run_.json) run_.io.out << fmt::format("{}\n", printable(db_.name()));
    for (const auto& table : {status.layers, status.manifests}) print_table(table);
    if (run_.json) print({{"type", "summary"}, {"database", db_.name()}, {"ok", status.ok()}});
    return status.ok() ? ExitCode::kSuccess : ExitCode::kDatabase;
  }

  void print_table(const dedupdb::TableStatus& table) {
    if (run_.json) {
      return print({{"type", "table"},
                    {"name", table.name},
                    {"present", table.present},
                    {"problem", table.problem},
                    {"rows", table.rows},
                    {"reference_rows", table.reference_rows},
                    {"hosts", table.hosts},
                    {"repos", table.repos}});
    }
    std::string text = "is missing: make it with 'obdctl db init'";
    if (!table.problem.empty()) {
      text = "cannot be used: " + printable(table.problem);
    } else if (table.present) {
      text = fmt::format("{} rows (hosts: {}, repositories: {}), beside {} of the reference convertor",
                         table.rows, table.hosts, table.repos, table.reference_rows);
    }
    run_.io.out << fmt::format("  {:<19} {}\n", table.name, text);
  }

  /// Shows the rows and counts them.
  dedupdb::PruneTotals show_rows() {
    dedupdb::PruneTotals totals;
    db_.list(
        filter_,
        [&](const dedupdb::Row& row) {
          ++(row.table == dedupdb::Table::kLayers ? totals.layers : totals.manifests);
          print_row(row);
          if (!run_.io.out) throw IoError("writing to standard output failed");
        },
        run_.stop());
    return totals;
  }

  void print_row(const dedupdb::Row& row) {
    const bool is_layer = row.table == dedupdb::Table::kLayers;
    if (!run_.json) {
      run_.io.out << fmt::format("{} {}/{} {} {} {}{}\n", is_layer ? "layer" : "manifest",
                                 printable(row.place.host), printable(row.place.repo), printable(row.key),
                                 printable(row.digest), row.size,
                                 is_layer ? std::string() : " " + printable(row.media_type));
      return;
    }
    Json object = {{"type", is_layer ? "layer" : "manifest"},
                   {"host", row.place.host},
                   {"repo", row.place.repo},
                   {"key", row.key},
                   {"digest", row.digest},
                   {"size", row.size}};
    if (!is_layer) object["media_type"] = row.media_type;
    print(object);
  }

  void summarise(const dedupdb::PruneTotals& totals, const char* text) {
    run_.io.out << fmt::format("{} {} layer rows, {} manifest rows\n", text, totals.layers, totals.manifests);
  }

  ExitCode list() {
    const dedupdb::PruneTotals totals = show_rows();
    if (run_.json) print({{"type", "summary"}, {"layers", totals.layers}, {"manifests", totals.manifests}});
    return ExitCode::kSuccess;
  }

  ExitCode prune() {
    const bool dry_run = parsed_.count("dry-run") != 0;
    const dedupdb::PruneTotals totals = dry_run ? show_rows() : db_.prune(filter_, run_.stop());
    if (run_.json) {
      print({{"type", "summary"},
             {"dry_run", dry_run},
             {"layers", totals.layers},
             {"manifests", totals.manifests}});
    } else {
      summarise(totals, dry_run ? "would remove" : "removed");
    }
    return ExitCode::kSuccess;
  }

  DedupDb& db_;
  const cxxopts::ParseResult& parsed_;
  Run& run_;
  RowFilter filter_;
};

std::string read_action(const std::vector<std::string>& args) {
  constexpr const char* kChoices = "init, status, list or prune";
  if (args.empty() || args.front().starts_with('-')) {
    throw UsageError(fmt::format("say what to do first: obdctl db {}", kChoices));
  }
  const std::vector<std::string> known(kActions.begin(), kActions.end());
  if (std::find(known.begin(), known.end(), args.front()) != known.end()) return args.front();
  const std::string near = did_you_mean(args.front(), known);
  throw UsageError(
      fmt::format("unknown action '{}': {}", printable(args.front()),
                  near.empty() ? fmt::format("use {}", kChoices) : fmt::format("did you mean '{}'?", near)));
}

cxxopts::Options db_table() {
  cxxopts::Options options("obdctl db",
                           "Looks after the database of what was converted where.\n\n"
                           "  init      make the tables that are missing\n"
                           "  status    whether the tables are there and fit, and how many rows they have\n"
                           "  list      the rows that our convertor wrote\n"
                           "  prune     remove them; those of the reference convertor are never touched\n");
  options.custom_help("init|status|list|prune [OPTION...]");
  add_db_options(options, "Database");
  options.add_options("Rows")("host", "list, prune: only rows of this registry",
                              cxxopts::value<std::string>(), "HOST")(
      "repo", "list, prune: only rows of this repository", cxxopts::value<std::string>(), "REPO")(
      "all", "prune: every row of ours")("n,dry-run", "prune: show what would be removed");
  return options;
}

}  // namespace

ExitCode obdctl_db(const std::vector<std::string>& args, Run& run) {
  cxxopts::Options options = db_table();
  const bool has_action = !args.empty() && !args.front().starts_with('-');
  const auto parsed = parse_verb(options, {args.begin() + (has_action ? 1 : 0), args.end()}, kExamples, run);
  if (!parsed) return ExitCode::kSuccess;
  const std::string action = read_action(args);
  const std::optional<DbChoice> choice = parse_db_options(*parsed);
  if (!choice) {
    throw UsageError(fmt::format(
        "which database? Give --db-str or --db-str-file, or set the environment's {}", kDbEnvironment));
  }
  warn_of_db_password(*choice);
  const auto db = dedupdb::open_dedup_db(choice->options);
  return DbCommand(*db, *parsed, run).run(action);
}

}  // namespace obd::tools
