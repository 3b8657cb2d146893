#include "tools/cli.h"

#include <fmt/format.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tools/registry_options.h"

namespace obd::tools {
namespace {

/// cxxopts quotes with typographic marks; ours are plain.
std::string plain_quotes(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const bool quote = text.starts_with("\u2018") || text.starts_with("\u2019");
    out += quote ? '\'' : text.front();
    text.remove_prefix(quote ? 3 : 1);
  }
  return out;
}

[[noreturn]] void refuse_argument(const cxxopts::Options& options, std::string_view argument) {
  if (argument.size() < 2 || argument.front() != '-') {
    throw UsageError(fmt::format("unexpected argument '{}'", printable(argument)));
  }
  // What stands behind the name may be a password.
  const std::string_view flag = argument.substr(0, argument.find_first_of("=:"));
  const std::string_view name = flag.substr(
      flag.find_first_not_of('-') == std::string_view::npos ? flag.size() : flag.find_first_not_of('-'));
  const std::string near = did_you_mean(name, option_names(options));
  throw UsageError(fmt::format("unknown option '{}'{}", printable(flag),
                               near.empty() ? " (see --help)" : fmt::format("; did you mean '--{}'?", near)));
}

/// cxxopts does not say whose value it could not read.
[[noreturn]] void refuse_value(const std::vector<std::string>& args, const std::string& message) {
  const size_t from = message.find('\'') + 1;
  const std::string value = message.substr(from, message.rfind('\'') - from);
  for (size_t i = 0; i < args.size(); ++i) {
    const bool attached = args[i].starts_with("--") && args[i].ends_with("=" + value);
    if (attached || (i > 0 && args[i] == value && args[i - 1].starts_with('-'))) {
      throw UsageError(fmt::format("'{}' is not a value for the option '{}'", printable(value),
                                   attached ? args[i].substr(0, args[i].find('=')) : args[i - 1]));
    }
  }
  throw UsageError(fmt::format("'{}' is not a valid value", printable(value)));
}

/// cxxopts takes the value of a letter only from the next argument; others, and the reference, from behind it
/// too.
std::vector<std::string> split_letters(const cxxopts::Options& options,
                                       const std::vector<std::string>& args) {
  std::string letters;  // of options that have a value
  for (const std::string& group : options.groups()) {
    for (const auto& option : options.group_help(group).options) {
      if (!option.is_boolean) letters += option.s;
    }
  }
  std::vector<std::string> split;
  for (const std::string& arg : args) {
    const bool attached = arg.size() > 2 && arg[0] == '-' && letters.find(arg[1]) != std::string::npos;
    if (!attached) {
      split.push_back(arg);
      continue;
    }
    split.push_back(arg.substr(0, 2));
    split.push_back(arg.substr(arg[2] == '=' ? 3 : 2));
  }
  return split;
}

struct Failure {
  ExitCode code;
  std::string message;
};

Failure describe_current_exception(const Io& io) {
  try {
    throw;
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  } catch (const Cancelled&) {
    return {io.stop->reason(), io.stop->reason() == ExitCode::kTerminated ? "terminated" : "interrupted"};
  } catch (const std::bad_alloc&) {
    return {ExitCode::kCapacity, "out of memory"};
  } catch (const std::exception& error) {
    return {ExitCode::kInternal, error.what()};
  } catch (...) {
    return {ExitCode::kInternal, "unknown exception"};
  }
}

}  // namespace

int run_tool(std::string_view program, Io& io, const std::function<ExitCode(Run&)>& body) {
  Run run{.io = io};
  try {
    const ExitCode code = body(run);
    io.out.flush();
    if (!io.out) throw IoError("writing to standard output failed");
    return static_cast<int>(code);
  } catch (...) {
    const Failure failure = describe_current_exception(io);
    io.err << fmt::format("{}: error: {}\n", program, failure.message) << std::flush;
    if (run.json) {
      const nlohmann::ordered_json error = {
          {"type", "error"}, {"exit_code", static_cast<int>(failure.code)}, {"message", failure.message}};
      io.out << error.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n'
             << std::flush;
    }
    return static_cast<int>(failure.code);
  }
}

int run_main(int argc, char** argv, int (*tool_main)(const std::vector<std::string>& args, Io io)) {
  const std::vector<std::string> args(argv + std::min(argc, 1), argv + argc);
  hide_passwords({argv, static_cast<size_t>(argc)});
  ::signal(SIGPIPE, SIG_IGN);
  const char* terminal = std::getenv("TERM");
  const bool dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
  Io io{.in = std::cin, .out = std::cout, .err = std::cerr, .tty = ::isatty(STDERR_FILENO) == 1 && !dumb};
  const SignalWatch watch(io.stop);
  return tool_main(args, io);
}

void configure_logging(std::ostream& err, bool verbose) {
  auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(err, true);
  auto logger = std::make_shared<spdlog::logger>("obd", std::move(sink));
  logger->set_pattern("%H:%M:%S.%e %l: %v");
  logger->set_level(verbose ? spdlog::level::debug : spdlog::level::warn);
  spdlog::set_default_logger(std::move(logger));
}

cxxopts::ParseResult parse_options(cxxopts::Options& options, const std::vector<std::string>& given) {
  options.allow_unrecognised_options();
  const std::vector<std::string> args = split_letters(options, given);
  std::vector<const char*> argv{options.program().c_str()};
  for (const std::string& arg : args) argv.push_back(arg.c_str());
  try {
    cxxopts::ParseResult result = options.parse(static_cast<int>(argv.size()), argv.data());
    for (const std::string& left : result.unmatched()) refuse_argument(options, left);
    return result;
  } catch (const cxxopts::exceptions::incorrect_argument_type& error) {
    refuse_value(args, plain_quotes(error.what()));
  } catch (const cxxopts::exceptions::exception& error) {
    std::string message = plain_quotes(error.what());
    if (message.starts_with('O')) message.front() = 'o';
    throw UsageError(message);
  }
}

std::vector<std::string> option_names(const cxxopts::Options& options) {
  std::vector<std::string> names;
  for (const std::string& group : options.groups()) {
    for (const auto& option : options.group_help(group).options) {
      names.insert(names.end(), option.l.begin(), option.l.end());
    }
  }
  return names;
}

}  // namespace obd::tools
