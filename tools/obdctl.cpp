#include "tools/obdctl.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ostream>

namespace obd::tools {
namespace {

constexpr std::array kVerbs = {
    ObdctlVerb{"inspect", "what an image or a layer blob consists of", obdctl_inspect},
    ObdctlVerb{"verify", "read everything and check every checksum, index and digest", obdctl_verify},
    ObdctlVerb{"export", "write the disk that a stack of layers makes to a sparse file", obdctl_export},
    ObdctlVerb{"check", "compare a converted image's filesystem with its source", obdctl_check},
    ObdctlVerb{"db", "make, look at and prune the database of what was converted", obdctl_db},
};

void print_help(std::ostream& out) {
  out << "obdctl: look at overlaybd images, and after the conversion database\n\nUsage:\n  obdctl COMMAND "
         "[OPTION...] [FILE...]\n\nCommands:\n";
  for (const ObdctlVerb& verb : kVerbs) out << fmt::format("  {:<9} {}\n", verb.name, verb.summary);
  out << "\n'obdctl COMMAND --help' lists a command's options.\n\n"
         "Examples:\n"
         "  obdctl inspect -r localhost:5000/acme/app -i 1.4_obd --plain\n"
         "  obdctl check -r oci:/srv/images -i 1.4 -o 1.4_obd\n"
         "  obdctl db status --db-str /var/lib/obd/dedup.db\n\n"
         "Exit codes: 0 success, 2 usage, 3 malformed data, 4 input/output, 5 network, 6 credentials,\n"
         "7 database, 9 difference found, 130 and 143 interrupted, 1 anything else.\n";
}

const ObdctlVerb& find_verb(const std::string& name) {
  std::vector<std::string> names;
  for (const ObdctlVerb& verb : kVerbs) {
    if (name == verb.name) return verb;
    names.emplace_back(verb.name);
  }
  const std::string near = did_you_mean(name, names);
  throw UsageError(
      fmt::format("unknown command '{}'{}", printable(name),
                  near.empty() ? "; see 'obdctl help'" : fmt::format("; did you mean '{}'?", near)));
}

/// cxxopts keeps groups in no order.
std::vector<std::string> ordered_groups(const cxxopts::Options& options) {
  const std::vector<std::string> present = options.groups();
  std::vector<std::string> ordered;
  for (const char* group :
       {"Image", "Images", "Registry", "Source", "Files", "Export", "Report", "Database", "Rows", "Output"}) {
    if (std::find(present.begin(), present.end(), group) != present.end()) ordered.emplace_back(group);
  }
  OBD_CHECK(ordered.size() == present.size());
  return ordered;
}

ExitCode run_obdctl(const std::vector<std::string>& args, Run& run) {
  if (args.empty()) throw UsageError("no command given; see 'obdctl help'");
  const std::string& first = args.front();
  const std::vector<std::string> rest(args.begin() + 1, args.end());
  if (first == "--version") {
    run.io.out << "obdctl " << OBD_VERSION << '\n';
    return ExitCode::kSuccess;
  }
  if (first == "help" && !rest.empty()) return find_verb(rest.front()).run({"--help"}, run);
  if (first == "help" || first == "--help" || first == "-h") {
    print_help(run.io.out);
    return ExitCode::kSuccess;
  }
  return find_verb(first).run(rest, run);
}

}  // namespace

int obdctl_main(const std::vector<std::string>& args, Io io) {
  return run_tool("obdctl", io, [&](Run& run) { return run_obdctl(args, run); });
}

std::optional<cxxopts::ParseResult> parse_verb(cxxopts::Options& options,
                                               const std::vector<std::string>& args, const char* examples,
                                               Run& run) {
  options.set_width(100).show_positional_help();
  options.add_options("Output")("json", "Print one JSON object per line instead of text")(
      "verbose", "Log what a maintainer needs to standard error")("version", "Print the version")(
      "h,help", "Print this help");
  const cxxopts::ParseResult parsed = parse_options(options, args);
  run.json = parsed.count("json") != 0 && parsed["json"].as<bool>();
  if (parsed.count("help") != 0) {
    run.io.out << options.help(ordered_groups(options)) << "\nExamples:\n" << examples;
    return std::nullopt;
  }
  if (parsed.count("version") != 0) {
    run.io.out << "obdctl " << OBD_VERSION << '\n';
    return std::nullopt;
  }
  configure_logging(run.io.err, parsed.count("verbose") != 0);
  return parsed;
}

}  // namespace obd::tools
