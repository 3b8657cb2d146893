#pragma once

#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>

#include "convertor/options.h"
#include "registry/registry.h"
#include "tools/cli.h"
#include "tools/db_options.h"
#include "tools/progress_view.h"

namespace obd::tools {

/// What the command line asks for, checked.
struct ConvertorRequest {
  std::string source_name;
  std::string target_name;
  std::string reference;
  std::optional<std::string> output_tag;
  registry::RepositoryOptions source;
  registry::RepositoryOptions target;
  convertor::ConvertOptions convert;
  size_t threads = 1;
  ProgressMode progress = ProgressMode::kAuto;
  std::filesystem::path metrics;
  /// Where what was converted is remembered: a database, or a tag of the target. At most one of them; with
  /// neither nothing is reused.
  std::optional<DbChoice> db;
  std::string cache_tag;
};

/// The table of convertor's options.
cxxopts::Options convertor_options();

/// Throws UsageError. Reads a password from `in` where the options say so.
ConvertorRequest parse_convertor_request(const cxxopts::ParseResult& parsed, std::istream& in);

}  // namespace obd::tools
