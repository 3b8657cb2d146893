#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/check_inode.h"
#include "tools/check_layer.h"

namespace obd::tools {

/// The filesystem that a source image stands for: layers of tar members applied to a tree in memory, which
/// takes about 200 bytes and the name for each path.
///
/// A layer's members take effect one after another. Whiteouts hide what the layers below hold, wherever in
/// their layer they stand; what is hidden later can still be linked to, and led through. Parents that are
/// missing are made (0755, 0:0, 1970, no xattrs); parents that are symlinks are followed inside the root.
class ExpectedTree {
 public:
  struct Directory;
  struct Node {
    std::shared_ptr<Inode> inode;  // shared by hardlinks
    std::unique_ptr<Directory> directory;
    uint32_t layer = 0;  // that gave it the name; layers count from 1

    Node();
    Node(Node&&) noexcept;
    Node& operator=(Node&&) noexcept;
    ~Node();
  };
  struct Directory {
    std::map<std::string, Node> entries;
    uint32_t listed = 0;   // the last layer with a member for the directory itself
    uint32_t touched = 0;  // the last layer with one for anything in it
  };

  ExpectedTree();
  ~ExpectedTree();
  ExpectedTree(const ExpectedTree&) = delete;
  ExpectedTree& operator=(const ExpectedTree&) = delete;

  /// Throws DataError that names the member for a layer that cannot be applied: it leads out of the root, has
  /// a parent that is no directory, links to nothing, or goes round in symlinks.
  void apply(std::vector<LayerMember> members);

  const Node& root() const { return root_; }

 private:
  using Path = std::vector<std::string>;

  Node* find_directory(const Path& path, bool create);
  void apply_member(LayerMember member);
  void apply_whiteout(const Path& path);
  Directory* hide(Node& node);
  void hide_content(Directory& top);
  void add(const Path& path, LayerMember member);
  void link(const Path& path, const std::string& target);
  static void discard(Node&& node);

  Node root_;
  uint32_t layer_ = 0;  // that is being applied
};

}  // namespace obd::tools
