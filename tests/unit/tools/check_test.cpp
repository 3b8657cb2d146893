#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "tests/support/tar_builder.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/blockfs/blob_builder.h"
#include "tools/obdctl.h"

namespace obd::tools {
namespace {

using test::Bytes;
using test::TarBuilder;

/// A tar, and an ext4 disk with the same tree that e2fsprogs made and that debugfs then changes: nothing of
/// our engine takes part.
class CheckAgainstE2fsprogs : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("PATH=$PATH:/sbin:/usr/sbin; command -v mkfs.ext4 debugfs >/dev/null 2>&1") != 0) {
      GTEST_SKIP() << "e2fsprogs is not installed";
    }
    const auto tree = directory_.path() / "tree";
    std::filesystem::create_directories(tree / "dir");
    test::write_file(tree / "dir/file", std::string(100'000, 'x'));
    test::write_file(tree / "other", "other");
    std::filesystem::create_symlink("dir/file", tree / "fast");
    std::filesystem::create_symlink(std::string(100, 's'), tree / "slow");
    std::filesystem::create_hard_link(tree / "dir/file", tree / "linked");
    const timespec times[2] = {{1234, 0}, {1234, 567'000'000}};
    for (const char* name : {"dir/file", "other", "fast", "slow", "dir", "."}) {
      ASSERT_EQ(::utimensat(AT_FDCWD, (tree / name).c_str(), times, AT_SYMLINK_NOFOLLOW), 0) << name;
      ASSERT_EQ(::lchown((tree / name).c_str(), ::getuid(), ::getgid()), 0);
    }
    for (const char* name : {"dir", "."}) ASSERT_EQ(::chmod((tree / name).c_str(), 0755), 0);
    for (const char* name : {"dir/file", "other"}) ASSERT_EQ(::chmod((tree / name).c_str(), 0644), 0);
    run(fmt::format("mkfs.ext4 -q -F -b 4096 -d {} -E root_owner={}:{} {} 8M", tree.string(), ::getuid(),
                    ::getgid(), image()));
    // Whether mkfs copies the root's time, and how much of a time, depends on its version.
    for (const char* name : {"/", "/dir", "/dir/file", "/other", "/fast", "/slow"})
      set_field(name, "mtime", "@1234");
    for (const char* name : {"/", "/dir", "/dir/file", "/other", "/fast", "/slow"})
      set_field(name, "mtime_extra", "0");
    write_tar();
  }

  std::string image() const { return (directory_.path() / "disk.img").string(); }
  void run(const std::string& command) {
    ASSERT_EQ(std::system(fmt::format("PATH=$PATH:/sbin:/usr/sbin; {} >/dev/null 2>&1", command).c_str()), 0)
        << command;
  }
  void debugfs(const std::string& request) { run(fmt::format("debugfs -w -R '{}' {}", request, image())); }
  void set_field(const std::string& path, const std::string& field, const std::string& value) {
    debugfs(fmt::format("set_inode_field {} {} {}", path, field, value));
  }

  void write_tar() {
    TarBuilder tar;
    const auto member = [&](TarBuilder::Member what) {
      what.uid = ::getuid();
      what.gid = ::getgid();
      what.mtime = 1234;
      tar.add(what);
    };
    member({.name = "./", .type = '5', .mode = 0755});
    member({.name = "dir", .type = '5', .mode = 0755});
    member({.name = "dir/file", .content = std::string(100'000, 'x')});
    member({.name = "other", .content = "other"});
    member({.name = "fast", .type = '2', .link = "dir/file", .mode = 0777});
    member({.name = "slow", .type = '2', .link = std::string(100, 's'), .mode = 0777});
    member({.name = "linked", .type = '1', .link = "dir/file"});
    const Bytes bytes = tar.end().bytes();
    test::write_file(directory_.path() / "layer.tar",
                     {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  /// Wraps the disk into a layer and checks it.
  std::pair<int, std::string> check() {
    const Bytes disk = test::to_bytes(test::read_file(image()));
    blockfs::ModelledLayer layer(Bytes(disk.size()), blockfs::kUuidA, "");
    layer.write(0, disk);
    layer.finish();
    const Bytes& blob = layer.file();
    test::write_file(directory_.path() / "layer.obd",
                     {reinterpret_cast<const char*>(blob.data()), blob.size()});
    std::istringstream in;
    std::ostringstream out;
    std::ostringstream err;
    const int code = obdctl_main({"check", "--source-layer", (directory_.path() / "layer.tar").string(),
                                  (directory_.path() / "layer.obd").string()},
                                 Io{.in = in, .out = out, .err = err});
    return {code, out.str() + err.str()};
  }

  test::TemporaryDirectory directory_;
};

TEST_F(CheckAgainstE2fsprogs, FindsEqualTreesEqual) {
  const auto [code, text] = check();
  EXPECT_EQ(code, 0) << text;
  EXPECT_NE(text.find("equal: 1 images, 7 paths"), std::string::npos) << text;
}

TEST_F(CheckAgainstE2fsprogs, FindsEveryKindOfChange) {
  struct Change {
    std::string request;
    std::string undo;
    std::string expected;
  };
  const Change changes[] = {
      {"set_inode_field /other mode 0100600", "set_inode_field /other mode 0100644",
       "/other: mode: 0644 in the source, 0600 in the converted image\n"},
      {"set_inode_field /other uid 77777", fmt::format("set_inode_field /other uid {}", ::getuid()),
       "/other: uid: "},
      {"set_inode_field /dir gid 66", fmt::format("set_inode_field /dir gid {}", ::getgid()), "/dir: gid: "},
      {"set_inode_field /slow mtime @1235", "set_inode_field /slow mtime @1234",
       "/slow: mtime: 1234.000000000 in the source, 1235.000000000 in the converted image\n"},
      {"set_inode_field /other mtime_extra 4", "set_inode_field /other mtime_extra 0",
       "1234.000000001 in the converted"},
      {"set_inode_field /other mtime_extra 1", "set_inode_field /other mtime_extra 0",
       "4294968530.000000000 in the"},
      {"set_inode_field /other size 4", "set_inode_field /other size 5",
       "/other: size: 5 in the source, 4 in"},
      {"set_inode_field /other mode 010644", "set_inode_field /other mode 0100644",
       "/other: type: file in the source, fifo"},
      {"set_inode_field /linked links_count 3", "set_inode_field /linked links_count 2",
       ": hardlinks: 2 in the source, 3 in"},
      {"ea_set /other user.name value", "ea_rm /other user.name",
       "/other: xattr user.name: nothing in the source, 5 bytes"},
      {"ln /other /dir/extra", "unlink /dir/extra",
       "/dir/extra: path: nothing in the source, file in the converted"},
      {"unlink /fast", "", "/fast: path: symlink in the source, nothing in the converted image\n"},
      {"punch /dir/file 3 3", "", ": content: "},
  };
  for (const Change& change : changes) {
    SCOPED_TRACE(change.request);
    debugfs(change.request);
    const auto [code, text] = check();
    EXPECT_EQ(code, 9) << text;
    EXPECT_NE(text.find(change.expected), std::string::npos) << text;
    if (!change.undo.empty()) debugfs(change.undo);
  }
}

TEST_F(CheckAgainstE2fsprogs, ADiskThatHoldsNoFilesystemIsADataError) {
  run(fmt::format("truncate -s 0 {0} && truncate -s 8M {0}", image()));
  EXPECT_EQ(check().first, 3);
}

}  // namespace
}  // namespace obd::tools
