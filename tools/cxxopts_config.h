#pragma once

// Every file of this folder includes cxxopts through here: the delimiter must be the same everywhere.

// A file's name may hold commas: lists are made by repeating an option, not by splitting its value.
#define CXXOPTS_VECTOR_DELIMITER '\0'

// The library's own parser instead of std::regex, which recurses over long arguments.
#define CXXOPTS_NO_REGEX

#include <cxxopts.hpp>
