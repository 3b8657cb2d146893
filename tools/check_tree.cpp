#include "tools/check_tree.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "tools/cli.h"

namespace obd::tools {
namespace {

constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kWhiteoutMeta = ".wh..wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";
constexpr int kMaxSymlinks = 40;

/// Without empty components and ".".
std::vector<std::string> components(std::string_view path) {
  std::vector<std::string> out;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (!part.empty() && part != ".") out.emplace_back(part);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
  }
  return out;
}

/// Resolves ".." in the text, as the names of an archive want it.
std::vector<std::string> normalise(std::string_view path) {
  std::vector<std::string> out;
  for (std::string& part : components(path)) {
    if (part != "..") {
      out.push_back(std::move(part));
    } else if (out.empty()) {
      throw DataError("it leads out of the root");
    } else {
      out.pop_back();
    }
  }
  return out;
}

/// What aufs kept for itself is no part of an image.
bool is_reserved(const std::string& name) {
  return name.starts_with(kWhiteoutMeta) && name != kOpaque;
}

std::vector<std::string> parent_of(const std::vector<std::string>& path) {
  return {path.begin(), path.end() - 1};
}

std::shared_ptr<Inode> implied_directory() {
  auto inode = std::make_shared<Inode>();
  inode->mode = S_IFDIR | 0755;
  return inode;
}

}  // namespace

ExpectedTree::Node::Node() = default;
ExpectedTree::Node::Node(Node&&) noexcept = default;
ExpectedTree::Node& ExpectedTree::Node::operator=(Node&&) noexcept = default;
ExpectedTree::Node::~Node() = default;

ExpectedTree::ExpectedTree() {
  root_.inode = implied_directory();
  root_.directory = std::make_unique<Directory>();
}

ExpectedTree::~ExpectedTree() {
  discard(std::move(root_));
}

/// Without recursion: a tree may be tens of thousands of levels deep.
void ExpectedTree::discard(Node&& node) {
  std::vector<Node> doomed;
  doomed.push_back(std::move(node));
  while (!doomed.empty()) {
    const Node last = std::move(doomed.back());
    doomed.pop_back();
    if (!last.directory) continue;
    for (auto& [name, child] : last.directory->entries) doomed.push_back(std::move(child));
  }
}

ExpectedTree::Node* ExpectedTree::find_directory(const Path& path, bool create) {
  std::vector<Node*> trail{&root_};
  Path todo(path.rbegin(), path.rend());
  for (int followed = 0; !todo.empty();) {
    const std::string part = std::move(todo.back());
    todo.pop_back();
    if (part == "..") {
      if (trail.size() > 1) trail.pop_back();
      continue;
    }
    auto& entries = trail.back()->directory->entries;
    auto child = entries.find(part);
    if (child == entries.end()) {
      if (!create) return nullptr;
      child = entries.try_emplace(part).first;
      child->second.inode = implied_directory();
      child->second.directory = std::make_unique<Directory>();
      child->second.layer = layer_;
    }
    if (child->second.inode->is_symlink()) {
      if (++followed > kMaxSymlinks) throw DataError("too many symlinks on its way");
      const std::string& target = child->second.inode->link_target();
      if (target.starts_with('/')) trail.resize(1);
      const Path parts = components(target);
      todo.insert(todo.end(), parts.rbegin(), parts.rend());
    } else if (child->second.directory) {
      trail.push_back(&child->second);
    } else if (create) {
      throw DataError(fmt::format("its parent '{}' is not a directory", printable(part)));
    } else {
      return nullptr;
    }
  }
  if (create) {
    for (Node* node : trail) node->directory->touched = layer_;
  }
  return trail.back();
}

void ExpectedTree::apply_whiteout(const Path& path) {
  Node* parent = find_directory(parent_of(path), false);
  if (parent == nullptr) return;
  const std::string& name = path.back();
  if (name == kOpaque) return hide_content(*parent->directory);
  auto& entries = parent->directory->entries;
  const auto found = entries.find(name.substr(kWhiteout.size()));
  if (found == entries.end()) return;
  Directory* const kept = hide(found->second);
  if (!found->second.inode) entries.erase(found);
  if (kept != nullptr) hide_content(*kept);
}

/// Leaves what this layer named, and empties what lies below it. A directory in which this layer has
/// something stays as well, as its own: it is returned, for its content is yet to be hidden.
ExpectedTree::Directory* ExpectedTree::hide(Node& node) {
  if (node.layer == layer_) return nullptr;
  Directory* const directory = node.directory.get();
  if (directory == nullptr || (directory->listed != layer_ && directory->touched != layer_)) {
    discard(std::exchange(node, Node()));
    return nullptr;
  }
  node.layer = layer_;
  if (directory->listed != layer_) node.inode = implied_directory();
  return directory;
}

void ExpectedTree::hide_content(Directory& top) {
  std::vector<Directory*> pending{&top};
  while (!pending.empty()) {
    Directory& directory = *pending.back();
    pending.pop_back();
    for (auto& [name, node] : directory.entries) {
      if (Directory* kept = hide(node)) pending.push_back(kept);
    }
    std::erase_if(directory.entries, [](const auto& entry) { return !entry.second.inode; });
  }
}

void ExpectedTree::link(const Path& path, const std::string& target) {
  const Path target_path = normalise(target);
  const Node* found = nullptr;
  if (Node* directory = target_path.empty() ? nullptr : find_directory(parent_of(target_path), false)) {
    const auto entry = directory->directory->entries.find(target_path.back());
    if (entry != directory->directory->entries.end()) found = &entry->second;
  }
  if (found == nullptr || found->directory) {
    throw DataError(fmt::format("it is a hardlink to '{}', which {}", printable(target),
                                found == nullptr ? "does not exist" : "is a directory"));
  }
  Node node;
  node.inode = found->inode;
  node.layer = layer_;
  Node& place = find_directory(parent_of(path), true)->directory->entries[path.back()];
  discard(std::exchange(place, std::move(node)));
}

void ExpectedTree::add(const Path& path, LayerMember member) {
  if (path.empty()) {
    if (!member.inode || !member.inode->is_directory()) throw DataError("the root must be a directory");
    root_.inode = std::move(member.inode);
    return;
  }
  if (!member.inode) return link(path, member.hardlink);
  Node& place = find_directory(parent_of(path), true)->directory->entries[path.back()];
  if (member.inode->is_directory() && place.directory) {
    place.inode = std::move(member.inode);
    place.directory->listed = layer_;
    return;
  }
  Node node;
  if (member.inode->is_directory()) {
    node.directory = std::make_unique<Directory>();
    node.directory->listed = layer_;
  }
  node.inode = std::move(member.inode);
  node.layer = layer_;
  discard(std::exchange(place, std::move(node)));
}

void ExpectedTree::apply_member(LayerMember member) {
  const Path path = normalise(member.path);
  if (std::any_of(path.begin(), path.end(), is_reserved)) return;
  if (!path.empty() && path.back().starts_with(kWhiteout)) return apply_whiteout(path);
  add(path, std::move(member));
}

void ExpectedTree::apply(std::vector<LayerMember> members) {
  ++layer_;
  for (LayerMember& member : members) {
    const std::string name = member.path;
    try {
      apply_member(std::move(member));
    } catch (Error& error) {
      error.add_context(fmt::format("'{}'", printable(name)));
      throw;
    }
  }
}

}  // namespace obd::tools
