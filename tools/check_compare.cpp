#include "tools/check_compare.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/error.h"
#include "tools/cli.h"

namespace obd::tools {
namespace {

std::string_view type_name(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symlink";
    case S_IFCHR:
      return "character device";
    case S_IFBLK:
      return "block device";
    case S_IFIFO:
      return "fifo";
    case S_IFSOCK:
      return "socket";
    default:
      return "unknown";
  }
}

std::string time_text(const Inode& inode) {
  return fmt::format("{}.{:09}", inode.mtime_seconds, inode.mtime_nanoseconds);
}

std::string value_text(const std::string& value) {
  constexpr size_t kShown = 32;
  std::string text;
  for (const char c : value.substr(0, kShown)) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return fmt::format("{} bytes {}{}", value.size(), text, value.size() > kShown ? "…" : "");
}

class Comparison {
 public:
  Comparison(Ext4Reader& converted, const std::function<void(const Difference&)>& report,
             std::stop_token stop)
      : converted_(converted), report_(report), stop_(std::move(stop)) {}

  ComparisonTotals run(const ExpectedTree& source) {
    compare("", source.root(), Ext4Reader::kRoot);
    while (!pending_.empty()) {
      const Pending next = std::move(pending_.back());
      pending_.pop_back();
      compare_entries(next);
    }
    return totals_;
  }

 private:
  struct Pending {
    std::string path;
    const ExpectedTree::Directory* directory;
    uint32_t inode;
  };

  void differ(const std::string& path, std::string property, std::string source, std::string converted) {
    ++totals_.differences;
    report_(
        {printable(path.empty() ? "/" : path), std::move(property), std::move(source), std::move(converted)});
  }

  template <class T>
  void expect(const std::string& path, const char* property, const T& source, const T& converted) {
    if (source != converted) {
      differ(path, property, fmt::format("{}", source), fmt::format("{}", converted));
    }
  }

  void compare_entries(const Pending& place) {
    const auto& expected = place.directory->entries;
    auto next = expected.begin();
    const auto missing = [&] {
      differ(fmt::format("{}/{}", place.path, next->first), "path",
             std::string(type_name(next->second.inode->mode)), "");
      ++next;
    };
    const size_t waiting = pending_.size();
    std::string previous;
    for (const Ext4Reader::Entry& entry : converted_.list(place.inode)) {
      if (stop_.stop_requested()) throw Cancelled();
      while (next != expected.end() && next->first < entry.name) missing();
      const std::string path = fmt::format("{}/{}", place.path, entry.name);
      if (next != expected.end() && next->first == entry.name) {
        compare(path, next->second, entry.inode);
        ++next;
      } else if (path != "/lost+found") {
        differ(path, "path", "",
               entry.name == previous ? "the same name again"
                                      : std::string(type_name(converted_.status(entry.inode).inode.mode)));
      }
      previous = entry.name;
    }
    while (next != expected.end()) missing();
    // The stack's top is visited next: so differences come in the order of a listing.
    std::reverse(pending_.begin() + static_cast<ptrdiff_t>(waiting), pending_.end());
  }

  void compare(const std::string& path, const ExpectedTree::Node& node, uint32_t number) try {
    ++totals_.paths;
    const Inode& source = *node.inode;
    const bool is_linked = !node.directory && node.inode.use_count() > 1;
    if (is_linked && seen_before(path, source, number)) return;
    if (!inodes_.insert(number).second)
      differ(path, "hardlinks", "a file of its own", "another name of a file");
    const Ext4Reader::Status status = converted_.status(number);
    const Inode& converted = status.inode;
    if ((source.mode & S_IFMT) != (converted.mode & S_IFMT)) {
      return expect(path, "type", type_name(source.mode), type_name(converted.mode));
    }
    if (node.directory) {
      pending_.push_back({path, node.directory.get(), number});
    } else {
      expect<uint64_t>(path, "hardlinks", static_cast<uint64_t>(node.inode.use_count()), status.links);
    }
    compare_properties(path, source, converted);
    compare_xattrs(path, source.xattrs(), converted.xattrs());
    if (source.is_regular() && source.size == converted.size) {
      totals_.content_bytes += source.size;
      expect(path, "content", source.content.text(), converted_.fingerprint(number).text());
    }
  } catch (Error& error) {
    error.add_context(fmt::format("'{}' in the converted image", printable(path.empty() ? "/" : path)));
    throw;
  }

  /// Of names that share an inode the first is compared; the others need only lead to the same place.
  bool seen_before(const std::string& path, const Inode& source, uint32_t number) {
    const auto [found, is_new] = linked_.try_emplace(&source, number, path);
    if (is_new) return false;
    if (found->second.first != number) {
      differ(path, "hardlinks", fmt::format("the same file as {}", printable(found->second.second)),
             "another file");
    }
    return true;
  }

  void compare_properties(const std::string& path, const Inode& source, const Inode& converted) {
    expect(path, "mode", fmt::format("{:04o}", source.mode & 07777),
           fmt::format("{:04o}", converted.mode & 07777));
    expect(path, "uid", source.uid, converted.uid);
    expect(path, "gid", source.gid, converted.gid);
    expect(path, "mtime", time_text(source), time_text(converted));
    expect(path, "size", source.size, converted.size);
    expect(path, "rdev", fmt::format("{}:{}", source.device_major, source.device_minor),
           fmt::format("{}:{}", converted.device_major, converted.device_minor));
    expect(path, "link target", printable(source.link_target()), printable(converted.link_target()));
  }

  void compare_xattrs(const std::string& path, const Inode::Xattrs& source, const Inode::Xattrs& converted) {
    for (const auto& [name, value] : source) {
      const auto other = converted.find(name);
      if (other == converted.end()) {
        differ(path, "xattr " + printable(name), value_text(value), "");
      } else if (other->second != value) {
        differ(path, "xattr " + printable(name), value_text(value), value_text(other->second));
      }
    }
    for (const auto& [name, value] : converted) {
      if (!source.contains(name)) differ(path, "xattr " + printable(name), "", value_text(value));
    }
  }

  Ext4Reader& converted_;
  const std::function<void(const Difference&)>& report_;
  std::stop_token stop_;
  ComparisonTotals totals_;
  std::vector<Pending> pending_;
  /// Inode and first name on the converted side of files that have several names in the source.
  std::unordered_map<const Inode*, std::pair<uint32_t, std::string>> linked_;
  std::unordered_set<uint32_t> inodes_;  // that were compared
};

}  // namespace

ComparisonTotals compare_trees(const ExpectedTree& source, Ext4Reader& converted,
                               const std::function<void(const Difference&)>& report, std::stop_token stop) {
  return Comparison(converted, report, std::move(stop)).run(source);
}

}  // namespace obd::tools
