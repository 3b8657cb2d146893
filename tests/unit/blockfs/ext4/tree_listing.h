#pragma once

#include <fmt/format.h>

#include <map>
#include <string>

#include "blockfs/ext4/directory.h"

namespace obd::blockfs {

/// Every path with its type and permissions, and a symlink's target: "d755", "f4755", "l777 -> x".
using TreeListing = std::map<std::string, std::string>;

inline void list_directory(Filesystem& filesystem, uint32_t inode, const std::string& prefix,
                           TreeListing& out) {
  const Directory directory = Directory::load(filesystem, inode);
  for (Directory::Index at = 0; at < directory.end(); ++at) {
    const Directory::Entry& entry = directory.entry(at);
    const std::string path = prefix + std::string(directory.name(at));
    constexpr std::string_view kLetters = "?fdcbpsl";
    std::string text = fmt::format("{}{:o}", kLetters[static_cast<size_t>(entry.type)],
                                   filesystem.attributes(entry.inode).permissions);
    if (entry.type == FileType::kSymlink) text += " -> " + filesystem.symlink_target(entry.inode);
    out[path] = text;
    if (entry.type == FileType::kDirectory) list_directory(filesystem, entry.inode, path + "/", out);
  }
}

inline TreeListing list_tree(Filesystem& filesystem) {
  TreeListing out;
  list_directory(filesystem, Filesystem::kRootInode, "", out);
  return out;
}

}  // namespace obd::blockfs
