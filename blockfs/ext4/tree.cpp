#include "blockfs/ext4/tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "common/error.h"

namespace obd::blockfs {
namespace {

constexpr int kMaxSymlinks = 40;  // as Linux
/// Directories grow without telling; their memory is counted again after so many bytes of new names.
constexpr uint64_t kRechargeBytes = 1 << 20;

std::string join(std::span<const std::string_view> path) {
  std::string out;
  for (const std::string_view component : path) {
    out += component;
    out += '/';
  }
  return out;
}

/// Puts the components of a symlink's target in front of what is left of a path.
void prepend(std::deque<std::string>& rest, std::string_view target) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= target.size();) {
    const size_t slash = std::min(target.find('/', at), target.size());
    if (slash > at) parts.emplace_back(target.substr(at, slash - at));
    at = slash + 1;
  }
  rest.insert(rest.begin(), parts.begin(), parts.end());
}

}  // namespace

Tree::Tree(Filesystem& filesystem, MetadataStore& store) : filesystem_(filesystem), store_(store) {}

Tree::~Tree() {
  store_.release(charged_bytes_);
}

void Tree::recharge() {
  uint64_t bytes = 0;
  for (const auto& [inode, directory] : directories_) bytes += directory->memory_bytes() + 64;
  store_.release(charged_bytes_);
  charged_bytes_ = bytes;
  inserted_bytes_ = 0;
  store_.charge(bytes);
}

Directory& Tree::directory(uint32_t inode) {
  const auto at = directories_.find(inode);
  if (at != directories_.end()) return *at->second;
  auto loaded = std::make_unique<Directory>(Directory::load(filesystem_, inode));
  inserted_bytes_ += loaded->memory_bytes();
  Directory& directory = *directories_.emplace(inode, std::move(loaded)).first->second;
  if (inserted_bytes_ > kRechargeBytes) recharge();
  return directory;
}

void Tree::touch(Directory& directory) {
  for (Directory* at = &directory; !at->touched;) {
    at->touched = true;
    at = &this->directory(at->parent());
  }
}

Directory* Tree::resolve(std::span<const std::string_view> path, bool create) {
  const std::string key = join(path);
  if (last_directory_ != nullptr && key == last_path_) return last_directory_;
  std::deque<std::string> rest(path.begin(), path.end());
  Directory* at = &root();
  int symlinks = 0;
  while (!rest.empty()) {
    const std::string name = std::move(rest.front());
    rest.pop_front();
    if (name == ".") continue;
    if (name == "..") {  // only from symlinks; stops at the root
      at = &directory(at->parent());
      continue;
    }
    if (name.size() > Directory::kMaxNameBytes) {
      throw DataError(
          fmt::format("a name of {} bytes; ext4 holds {}", name.size(), Directory::kMaxNameBytes));
    }
    const Directory::Index found = at->find(name);
    if (found == Directory::kNone) {
      if (!create) return nullptr;
      at = &make_directory(*at, name, kImpliedDirectory, {});
      continue;
    }
    const Directory::Entry entry = at->entry(found);
    if (entry.type == FileType::kDirectory) {
      at = &directory(entry.inode);
    } else if (entry.type == FileType::kSymlink) {
      if (++symlinks > kMaxSymlinks)
        throw DataError(fmt::format("more than {} symlinks on the way", kMaxSymlinks));
      const std::string target = filesystem_.symlink_target(entry.inode);
      if (target.starts_with('/')) at = &root();
      prepend(rest, target);
    } else {
      if (!create) return nullptr;
      throw DataError(fmt::format("'{}' on its path is neither a directory nor a symlink", name));
    }
  }
  last_path_ = key;
  last_directory_ = at;
  return at;
}

void Tree::put(Directory& parent, std::string_view name, uint32_t inode, FileType type) {
  const Directory::Index at = parent.find(name);
  if (at == Directory::kNone) {
    parent.insert(name, inode, type, true);
    inserted_bytes_ += name.size() + 32;
    if (inserted_bytes_ > kRechargeBytes) recharge();
  } else {
    remove_target(parent, at);
    parent.replace(at, inode, type);
  }
  parent.changed = true;
  touch(parent);
}

Directory& Tree::make_directory(Directory& parent, std::string_view name, const InodeAttributes& attributes,
                                const Xattrs& xattrs) {
  const uint32_t inode = filesystem_.allocate_inode(true);
  filesystem_.create_inode(inode, attributes, xattrs);
  auto made = std::make_unique<Directory>(inode, parent.inode());
  made->changed = true;
  Directory& directory = *directories_.insert_or_assign(inode, std::move(made)).first->second;
  put(parent, name, inode, FileType::kDirectory);
  return directory;
}

void Tree::drop_directory(uint32_t inode) {
  directories_.erase(inode);
  filesystem_.free_directory(inode);
}

/// Frees what an entry leads to. Paths through it lead elsewhere from now on.
void Tree::remove_target(Directory& parent, Directory::Index at) {
  const Directory::Entry entry = parent.entry(at);
  if (entry.type == FileType::kDirectory) {
    remove_subtree(entry.inode);
  } else {
    filesystem_.remove_link(entry.inode);
  }
  if (entry.type == FileType::kDirectory || entry.type == FileType::kSymlink) last_directory_ = nullptr;
}

void Tree::remove_subtree(uint32_t top) {
  std::vector<uint32_t> pending{top};
  while (!pending.empty()) {
    const uint32_t inode = pending.back();
    pending.pop_back();
    Directory& directory = this->directory(inode);
    for (Directory::Index at = 0; at < directory.end(); ++at) {
      const Directory::Entry& entry = directory.entry(at);
      if (entry.inode == 0) continue;
      if (entry.type == FileType::kDirectory) {
        pending.push_back(entry.inode);
      } else {
        filesystem_.remove_link(entry.inode);
      }
    }
    drop_directory(inode);
  }
}

/// Hides one entry. A directory in which this layer has something stays: it is returned, for its content is
/// yet to be hidden.
Directory* Tree::hide_entry(Directory& parent, Directory::Index at) {
  const Directory::Entry entry = parent.entry(at);
  if (entry.inode == 0 || entry.fresh) return nullptr;
  if (entry.type == FileType::kDirectory) {
    Directory& child = directory(entry.inode);
    if (child.touched || child.declared) {
      parent.set_fresh(at);
      if (!child.declared) filesystem_.set_attributes(child.inode(), kImpliedDirectory, {});
      return &child;
    }
  }
  remove_target(parent, at);
  parent.remove(at);
  parent.changed = true;
  return nullptr;
}

void Tree::hide(Directory& parent, Directory::Index at) {
  if (Directory* kept = hide_entry(parent, at)) hide_content(*kept);
}

void Tree::hide_content(Directory& top) {
  // Not recursive: how deep a tree is, the image decides.
  std::vector<Directory*> pending{&top};
  while (!pending.empty()) {
    Directory& directory = *pending.back();
    pending.pop_back();
    for (Directory::Index at = 0; at < directory.end(); ++at) {
      if (Directory* kept = hide_entry(directory, at)) pending.push_back(kept);
    }
  }
}

void Tree::write_changed() {
  root();  // must be there even if the layer is empty
  std::vector<Directory*> changed;
  for (const auto& [inode, directory] : directories_) {
    if (directory->changed) changed.push_back(directory.get());
  }
  std::sort(changed.begin(), changed.end(),
            [](const Directory* a, const Directory* b) { return a->inode() < b->inode(); });
  for (Directory* directory : changed) {
    EncodedDirectory encoded = encode_directory(*directory, filesystem_);
    filesystem_.write_directory(directory->inode(), encoded.blocks, encoded.indexed,
                                static_cast<uint32_t>(directory->subdirectories() + 2));
  }
}

}  // namespace obd::blockfs
