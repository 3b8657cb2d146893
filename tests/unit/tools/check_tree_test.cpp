#include "tools/check_tree.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/error.h"
#include "tests/support/tar_builder.h"

namespace obd::tools {
namespace {

using test::TarBuilder;

void apply(ExpectedTree& tree, TarBuilder& layer) {
  bool given = false;
  tree.apply(read_layer("layer",
                        [&]() -> std::span<const std::byte> {
                          return std::exchange(given, true) ? std::span<const std::byte>()
                                                            : std::span<const std::byte>(layer.bytes());
                        },
                        {}));
}

/// "path mode size" of each path, below the root.
void list(const std::string& path, const ExpectedTree::Node& node, std::string& out) {
  if (!path.empty()) out += fmt::format("{} {:o} {}\n", path, node.inode->mode, node.inode->size);
  if (!node.directory) return;
  for (const auto& [name, child] : node.directory->entries) list(path + "/" + name, child, out);
}

std::string tree_of(std::vector<TarBuilder> layers) {
  ExpectedTree tree;
  for (TarBuilder& layer : layers) apply(tree, layer);
  std::string out;
  list("", tree.root(), out);
  return out;
}

std::string error_of(std::vector<TarBuilder> layers) {
  try {
    tree_of(std::move(layers));
  } catch (const DataError& error) {
    return error.what();
  }
  return "none";
}

TarBuilder base() {
  return TarBuilder()
      .directory("d", 0700)
      .file("d/old", "1")
      .directory("d/sub")
      .file("d/sub/deep", "22")
      .file("f", "333");
}

TEST(ExpectedTree, WhiteoutsHideWhatLiesBelowWhereverTheyStand) {
  for (const bool first : {true, false}) {
    TarBuilder upper;
    if (first) upper.file("d/.wh.old", "");
    upper.file("d/old", "new!");
    if (!first) upper.file("d/.wh.old", "");
    EXPECT_EQ(tree_of({base(), upper}),
              "/d 40700 0\n/d/old 100644 4\n/d/sub 40755 0\n/d/sub/deep 100644 2\n/f 100644 3\n");
  }
}

TEST(ExpectedTree, OpaqueWhiteoutsKeepTheirOwnLayerAndTheDirectorysMetadata) {
  EXPECT_EQ(tree_of({base(), TarBuilder().file("d/new", "1").file("d/.wh..wh..opq", "")}),
            "/d 40700 0\n/d/new 100644 1\n/f 100644 3\n");
}

TEST(ExpectedTree, AWhitedOutDirectoryWithNewContentIsImplied) {
  EXPECT_EQ(tree_of({base(), TarBuilder().file("d/sub/x", "1").file(".wh.d", "")}),
            "/d 40755 0\n/d/sub 40755 0\n/d/sub/x 100644 1\n/f 100644 3\n");
  EXPECT_EQ(tree_of({base(), TarBuilder().directory("d", 0711).file(".wh.d", "")}),
            "/d 40711 0\n/f 100644 3\n");
}

TEST(ExpectedTree, WhiteoutsThatHideNothingMakeNothing) {
  EXPECT_EQ(tree_of({base(),
                     TarBuilder().file("no/where/.wh.x", "").file("f/.wh.x", "").file("d/.wh..wh.plnk", "")}),
            tree_of({base()}));
}

TEST(ExpectedTree, ARemovalInsideARemovedDirectoryIsHarmless) {
  EXPECT_EQ(tree_of({base(), TarBuilder()
                                 .file(".wh.d", "")
                                 .file("d/.wh.old", "")
                                 .file("d/sub/.wh..wh..opq", "")
                                 .file("d/.wh.sub", "")}),
            "/f 100644 3\n");
}

TEST(ExpectedTree, WhatALaterWhiteoutHidesCanBeLinkedTo) {
  ExpectedTree tree;
  TarBuilder lower = base();
  apply(tree, lower);
  const auto old = tree.root().directory->entries.at("d").directory->entries.at("old").inode;
  TarBuilder upper;
  upper.hardlink("new", "d/old").file("d/.wh.old", "").hardlink("keep/deep", "d/sub/deep").file(".wh.d", "");
  apply(tree, upper);
  const auto& root = tree.root().directory->entries;
  EXPECT_EQ(root.at("new").inode, old);
  EXPECT_EQ(old.use_count(), 2) << "the name that was hidden is gone";
  EXPECT_FALSE(root.contains("d"));
  EXPECT_EQ(root.at("keep").directory->entries.at("deep").inode->size, 2U);
  // What was hidden before cannot.
  EXPECT_NE(error_of({base(), TarBuilder().file("d/.wh.old", "").hardlink("new", "d/old")}).find("does not"),
            std::string::npos);
}

TEST(ExpectedTree, ASymlinkOfALowerLayerLeadsSomewhereUntilItIsHidden) {
  const TarBuilder lower = TarBuilder().directory("real", 0700).symlink("l", "real").file("real/old", "1");
  EXPECT_EQ(tree_of({lower, TarBuilder().file("l/x", "22").file("l/.wh.old", "").file(".wh.l", "")}),
            "/real 40700 0\n/real/x 100644 2\n");
  EXPECT_EQ(tree_of({lower, TarBuilder().file(".wh.l", "").file("l/x", "22")}),
            "/l 40755 0\n/l/x 100644 2\n/real 40700 0\n/real/old 100644 1\n");
}

TEST(ExpectedTree, WhiteoutsInWhatTheyKeepGoOnlyDownToTheirOwnLayer) {
  const std::string expected = "/d 40755 0\n/d/sub 40711 0\n/d/sub/x 100644 1\n/f 100644 3\n";
  for (const char* whiteout : {".wh.d", "d/.wh..wh..opq"}) {
    TarBuilder upper;
    upper.directory("d/sub", 0711).file("d/sub/x", "1").file(whiteout, "").file(whiteout, "");
    const std::string kept_mode = whiteout[0] == '.' ? "40755" : "40700";
    EXPECT_EQ(tree_of({base(), upper}), "/d " + kept_mode + expected.substr(8)) << whiteout;
    // The next layer finds it to be below.
    EXPECT_EQ(tree_of({base(), upper, TarBuilder().file(".wh.d", "")}), "/f 100644 3\n");
  }
}

TEST(ExpectedTree, WhatAufsKeptForItselfIsLeftOut) {
  EXPECT_EQ(tree_of({base(), TarBuilder().directory(".wh..wh.plnk").file(".wh..wh.plnk/12.3", "x")}),
            tree_of({base()}));
}

TEST(ExpectedTree, TypesReplaceOneAnother) {
  EXPECT_EQ(tree_of({base(), TarBuilder().file("d", "flat").directory("f")}), "/d 100644 4\n/f 40755 0\n");
  EXPECT_EQ(tree_of({base(), TarBuilder().symlink("l", "d"), TarBuilder().directory("l", 0711)}),
            tree_of({base()}) + "/l 40711 0\n");
  EXPECT_EQ(tree_of({base(), TarBuilder().directory("d", 0711)}).substr(0, 11), "/d 40711 0\n");
}

TEST(ExpectedTree, ParentsThatAreSymlinksAreFollowedInsideTheRoot) {
  EXPECT_EQ(tree_of({TarBuilder().directory("real").symlink("a", "/real").file("a/x", "1")}),
            "/a 120777 0\n/real 40755 0\n/real/x 100644 1\n");
  EXPECT_EQ(tree_of({TarBuilder().symlink("up", "../../../etc").file("up/passwd", "1")}),
            "/etc 40755 0\n/etc/passwd 100644 1\n/up 120777 0\n");
  EXPECT_EQ(tree_of({TarBuilder().symlink("b/l", "../new/./dir").file("b/l/x", "1")}),
            "/b 40755 0\n/b/l 120777 0\n/new 40755 0\n/new/dir 40755 0\n/new/dir/x 100644 1\n");
}

TEST(ExpectedTree, NamesAreCleanedAndMustStayInTheRoot) {
  EXPECT_EQ(tree_of({TarBuilder().file("./a/../b//c/.", "1").file("/abs", "1")}),
            "/abs 100644 1\n/b 40755 0\n/b/c 100644 1\n");
  EXPECT_NE(error_of({TarBuilder().file("a/../../b", "")}).find("out of the root"), std::string::npos);
  EXPECT_NE(error_of({TarBuilder().file("x", "").hardlink("l", "../x")}).find("out of the root"),
            std::string::npos);
}

TEST(ExpectedTree, TheRootTakesItsMetadataFromAnEntry) {
  ExpectedTree tree;
  EXPECT_EQ(tree.root().inode->mode, S_IFDIR | 0755U);
  TarBuilder layer;
  layer.add({.name = "./", .type = '5', .mode = 0700, .uid = 7, .mtime = 99});
  apply(tree, layer);
  EXPECT_EQ(tree.root().inode->mode, S_IFDIR | 0700U);
  EXPECT_EQ(tree.root().inode->uid, 7U);
  EXPECT_EQ(tree.root().inode->mtime_seconds, 99);
}

TEST(ExpectedTree, HardlinksShareTheInodeAlsoOfASymlink) {
  ExpectedTree tree;
  TarBuilder lower;
  lower.file("a", "1").symlink("s", "nowhere");
  apply(tree, lower);
  TarBuilder upper;
  upper.hardlink("d/b", "./a").hardlink("t", "s").hardlink("a", "a");
  apply(tree, upper);
  const auto& root = tree.root().directory->entries;
  EXPECT_EQ(root.at("d").directory->entries.at("b").inode, root.at("a").inode);
  EXPECT_EQ(root.at("a").inode.use_count(), 2);
  EXPECT_EQ(root.at("t").inode, root.at("s").inode);
}

TEST(ExpectedTree, RefusesWhatCannotBeApplied) {
  EXPECT_NE(error_of({TarBuilder().hardlink("l", "none")}).find("does not exist"), std::string::npos);
  EXPECT_NE(error_of({TarBuilder().directory("d").hardlink("l", "d")}).find("a directory"),
            std::string::npos);
  EXPECT_NE(error_of({TarBuilder().file("f", "").file("f/x", "")}).find("not a directory"),
            std::string::npos);
  EXPECT_NE(error_of({TarBuilder().symlink("a", "b").symlink("b", "a").file("a/x", "")}).find("symlinks"),
            std::string::npos);
  EXPECT_NE(error_of({TarBuilder().symlink("./", "x")}).find("root"), std::string::npos);
}

TEST(ExpectedTree, ATreeOfAnyDepthIsFreedWithoutRecursion) {
  std::string path;
  for (int i = 0; i < 30'000; ++i) path += "d/";
  ExpectedTree tree;
  TarBuilder layer;
  layer.add({.name = "x", .pax = {{"path", path + "x"}}});
  apply(tree, layer);
  TarBuilder upper;
  upper.file(".wh.d", "");
  apply(tree, upper);
  apply(tree, layer);
}

}  // namespace
}  // namespace obd::tools
