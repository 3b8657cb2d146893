#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include "tools/check_ext4.h"
#include "tools/check_tree.h"

namespace obd::tools {

/// One property in which the two sides differ. All texts are safe to print.
struct Difference {
  std::string path;
  std::string property;   // "mode", "content", …; "path" where one side lacks it
  std::string source;     // what the source image has; empty: nothing
  std::string converted;  // likewise
};

struct ComparisonTotals {
  uint64_t paths = 0;          // of the source image
  uint64_t content_bytes = 0;  // of the files that were read, holes included
  uint64_t differences = 0;
};

/// Compares path by path, in both directions. A tree that one side lacks is one difference. A lost+found in
/// the root is overlooked where the source has none.
ComparisonTotals compare_trees(const ExpectedTree& source, Ext4Reader& converted,
                               const std::function<void(const Difference&)>& report, std::stop_token stop);

}  // namespace obd::tools
