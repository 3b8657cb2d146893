#pragma once

#include <string>
#include <vector>

#include "tools/cli.h"

namespace obd::tools {

/// The program `convertor`. `args` without the program's name; returns the exit code.
int convertor_main(const std::vector<std::string>& args, Io io);

}  // namespace obd::tools
