#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/cli.h"

namespace obd::tools {

/// obdctl as a function: `args` without the program's name; returns the exit code.
int obdctl_main(const std::vector<std::string>& args, Io io);

/// One command of obdctl. Its arguments come without its name.
struct ObdctlVerb {
  const char* name;
  const char* summary;
  ExitCode (*run)(const std::vector<std::string>& args, Run& run);
};

ExitCode obdctl_inspect(const std::vector<std::string>& args, Run& run);
ExitCode obdctl_verify(const std::vector<std::string>& args, Run& run);
ExitCode obdctl_export(const std::vector<std::string>& args, Run& run);
ExitCode obdctl_check(const std::vector<std::string>& args, Run& run);
ExitCode obdctl_db(const std::vector<std::string>& args, Run& run);

/// Adds --json, --verbose and --help to a command's table, parses, and acts on them. None if help was asked
/// for and printed: the table, then `examples`.
std::optional<cxxopts::ParseResult> parse_verb(cxxopts::Options& options,
                                               const std::vector<std::string>& args, const char* examples,
                                               Run& run);

}  // namespace obd::tools
