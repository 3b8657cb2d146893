#include "registry/tar_index.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "registry/tar_writer.h"
#include "registry/unpack.h"
#include "tests/support/compression.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::Bytes;
using obd::test::MemorySource;
using obd::test::TarBuilder;
using testing::HasSubstr;

TarIndex index_of(const Bytes& archive) {
  return read_tar_index(MemorySource(archive), {});
}

std::string content_of(const Bytes& archive, const std::string& name) {
  const TarIndex index = index_of(archive);
  const TarMember* file = find_file(index, name, "archive");
  if (file == nullptr) return "nothing";
  std::string content(file->size, '\0');
  MemorySource(archive).read_at(file->offset, std::as_writable_bytes(std::span(content)));
  return content;
}

/// Also across the blocks in which the index reads.
TEST(TarIndex, FindsContentBehindEveryKindOfHeader) {
  const std::string large = noise(100'000);
  const std::string long_name = "deep/" + std::string(150, 'n');
  const std::string longer_name = std::string(120, 'd') + "/" + std::string(150, 'p');
  const Bytes archive =
      TarBuilder()
          .directory("deep/")
          .file("first", "one")
          .file("large", large)
          .long_text('L', long_name)
          .file("cut off", "behind a GNU name")
          .records('g', {{"comment", std::string(3000, 'c')}})
          .add({.name = "x", .content = "behind pax", .pax = {{"path", longer_name}}})
          .add({.name = "y", .content = "behind a long pax", .pax = {{"comment", noise(70'000)}}})
          .file("empty", "")
          .file("last", "four")
          .end()
          .bytes();
  EXPECT_EQ(content_of(archive, "first"), "one");
  EXPECT_EQ(content_of(archive, "large"), large);
  EXPECT_EQ(content_of(archive, long_name), "behind a GNU name");
  EXPECT_EQ(content_of(archive, longer_name), "behind pax");
  EXPECT_EQ(content_of(archive, "y"), "behind a long pax");
  EXPECT_EQ(content_of(archive, "empty"), "");
  EXPECT_EQ(content_of(archive, "last"), "four");
  EXPECT_EQ(index_of(archive).at("deep").kind, TarMember::Kind::kDirectory);
}

TEST(TarIndex, SizeInAPaxHeaderCounts) {
  const std::string content(700, 'p');
  const Bytes archive = TarBuilder()
                            .add({.name = "a", .content = content, .pax = {{"size", "700"}}})
                            .patch(124, "00000000000")
                            .file("b", "next")
                            .end()
                            .bytes();
  EXPECT_EQ(content_of(archive, "a"), content);
  EXPECT_EQ(content_of(archive, "b"), "next");
}

TEST(TarIndex, LastOfMembersWithOneNameCounts) {
  const Bytes archive =
      TarBuilder().file("a", "old").file("./a", "newer").file("b", "b").file("/a", "newest").end().bytes();
  EXPECT_EQ(content_of(archive, "a"), "newest");
  EXPECT_EQ(content_of(archive, "./a"), "newest");
  EXPECT_EQ(index_of(archive).size(), 2u);
}

TEST(TarIndex, ArchiveWithoutAnEndMarkIsRead) {
  EXPECT_EQ(content_of(TarBuilder().file("a", "content").bytes(), "a"), "content");
}

TEST(TarIndex, CutOffArchiveIsRefusedWithTheOffset) {
  const Bytes whole = TarBuilder().file("a", "first").file("b", std::string(5000, 'b')).bytes();
  const auto message = [&](size_t bytes) {
    return message_of<DataError>(
        [&] { index_of(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(bytes))); });
  };
  EXPECT_THAT(message(4000),
              testing::AllOf(HasSubstr("memory: at byte 1024"), HasSubstr("'b' has 5000 bytes")));
  EXPECT_THAT(message(1300), HasSubstr("at byte"));
  EXPECT_THAT(message(100), HasSubstr("tar archive"));
  EXPECT_THAT(message(0), HasSubstr("tar archive"));
}

TEST(TarIndex, WhatIsNoTarArchiveIsRefused) {
  EXPECT_THROW(index_of(obd::test::to_bytes(noise(10'000))), DataError);
  Bytes damaged = TarBuilder().file("a", "1").file("b", "2").end().bytes();
  damaged[1024 + 130] = std::byte{'7'};  // the second header's size; its checksum is wrong now
  EXPECT_THAT(message_of<DataError>([&] { index_of(damaged); }), HasSubstr("at byte 1024"));
}

TEST(TarIndex, HugeAndNegativeSizesAreRefused) {
  for (const std::string& size :
       {std::string("77777777777"), std::string("\x80\0\0\0\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 12),
        std::string("\x80\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 12), std::string(12, '\xFF')}) {
    const Bytes archive = TarBuilder().file("a", "x").patch(124, size).file("b", "y").end().bytes();
    EXPECT_THROW(index_of(archive), DataError) << testing::PrintToString(size);
  }
  const Bytes pax = TarBuilder().add({.name = "a", .pax = {{"size", "9223372036854775807"}}}).end().bytes();
  EXPECT_THROW(index_of(pax), DataError);
}

TEST(TarIndex, NamesThatLeaveTheArchiveLeadNowhere) {
  const Bytes archive = TarBuilder().file("../../etc/passwd", "evil").file("a/../b", "odd").end().bytes();
  EXPECT_EQ(content_of(archive, "etc/passwd"), "nothing");
  EXPECT_EQ(content_of(archive, "b"), "nothing");
}

TEST(TarIndex, LinksAreFollowedWithinTheArchive) {
  const Bytes archive = TarBuilder()
                            .file("one/layer.tar", "content")
                            .symlink("two/layer.tar", "../one/layer.tar")
                            .symlink("three/layer.tar", "../two/./layer.tar")
                            .symlink("absolute", "/one/layer.tar")
                            .hardlink("deep/er/hard", "one/layer.tar")
                            .end()
                            .bytes();
  for (const char* name : {"two/layer.tar", "three/layer.tar", "absolute", "deep/er/hard"}) {
    EXPECT_EQ(content_of(archive, name), "content") << name;
  }
}

TEST(TarIndex, LinksThatLeadNowhereAreRefused) {
  TarBuilder builder;
  builder.symlink("self", "self").symlink("a", "b").symlink("b", "a").hardlink("hard", "hard");
  builder.symlink("out", "../outside").symlink("dir/out", "../../outside").symlink("lost", "nowhere");
  builder.directory("dir").symlink("to-dir", "dir").add({.name = "device", .type = '3'});
  const Bytes archive = builder.end().bytes();
  const auto message = [&](const char* name) {
    return message_of<DataError>([&] { content_of(archive, name); });
  };
  for (const char* name : {"self", "a", "hard"}) EXPECT_THAT(message(name), HasSubstr("link over more than"));
  for (const char* name : {"out", "dir/out"}) EXPECT_THAT(message(name), HasSubstr("out of the archive"));
  EXPECT_THAT(message("lost"), HasSubstr("'nowhere', which is not there"));
  for (const char* name : {"to-dir", "dir", "device"}) EXPECT_THAT(message(name), HasSubstr("not a file"));
}

/// Its bytes in the archive are not its content.
TEST(TarIndex, SparseMemberIsNoPlainFile) {
  const Bytes archive = TarBuilder()
                            .add({.name = "s",
                                  .content = "data",
                                  .pax = {{"GNU.sparse.major", "0"},
                                          {"GNU.sparse.minor", "1"},
                                          {"GNU.sparse.name", "sparse"},
                                          {"GNU.sparse.size", "1000000"},
                                          {"GNU.sparse.map", "999996,4"}}})
                            .file("b", "next")
                            .end()
                            .bytes();
  EXPECT_THROW(content_of(archive, "sparse"), DataError);
  EXPECT_EQ(content_of(archive, "b"), "next");
}

TEST(TarIndex, MessagesHoldNothingThatATerminalActsOn) {
  EXPECT_EQ(shown_name("a\x1B[2Jb\n\xC2\x9B"), "a?[2Jb???");
  EXPECT_EQ(shown_name(std::string(300, 'x')).find(std::string(101, 'x')), std::string::npos);
}

TEST(TarIndex, StopEndsIt) {
  std::stop_source stopped;
  stopped.request_stop();
  EXPECT_THROW(read_tar_index(MemorySource(TarBuilder().file("a", "x").end().bytes()), stopped.get_token()),
               Cancelled);
}

TarContent sample_content() {
  TarContent content;
  for (const auto& [name, text] :
       std::map<std::string, std::string>{{"blobs/sha256/" + std::string(64, 'a'), noise(300'000)},
                                          {"empty", ""},
                                          {"z", std::string(512, 'z')}}) {
    content.emplace(name, std::make_shared<MemorySource>(obd::test::to_bytes(text)));
  }
  return content;
}

TEST(TarWriter, WritesWhatTheIndexFinds) {
  obd::test::MemorySink sink;
  const TarContent content = sample_content();
  write_tar(sink, content, {});
  EXPECT_EQ(index_of(sink.bytes()).size(), content.size());
  for (const auto& [name, source] : content) {
    EXPECT_EQ(content_of(sink.bytes(), name), text_of(obd::test::read_all(*source))) << name;
  }
}

TEST(TarWriter, BytesNeverChange) {
  obd::test::MemorySink sink;
  write_tar(sink, sample_content(), {});
  EXPECT_EQ(Digest::of(sink.bytes()).hex(),
            "a63e0f53fefb917304b86b4fcf8120153e14ee64412a6ab63fec919560402308");
}

/// As long as any, and as empty.
class LongSource final : public ByteSource {
 public:
  uint64_t size() const override { return uint64_t{9} << 30; }
  std::string name() const override { return "long"; }

 protected:
  void do_read_at(uint64_t, std::span<std::byte> out) const override {
    std::fill(out.begin(), out.end(), std::byte{});
  }
};

TEST(TarWriter, MembersMayBeLargerThanUstarCanSay) {
  obd::test::MemorySink sink(4096);
  EXPECT_THROW(write_tar(sink, {{"long", std::make_shared<LongSource>()}}, {}), IoError);
  EXPECT_THAT(std::string(text_of(sink.bytes())), HasSubstr("size=9663676416\n"));
}

TEST(TarWriter, FailingSinkEndsIt) {
  const TarContent content = sample_content();
  for (const uint64_t room : {0, 511, 512, 100'000, 302'000}) {
    obd::test::MemorySink sink(room);
    EXPECT_THAT(message_of<IoError>([&] { write_tar(sink, content, {}); }), HasSubstr("the sink is full"))
        << room;
  }
}

TEST(Unpack, GivesBackWhatWasPacked) {
  const TemporaryDirectory directory;
  const Bytes content = obd::test::to_bytes(noise(3 << 20));
  for (const Bytes& packed : {obd::test::gzip(content), obd::test::zstd(content)}) {
    const auto unpacked = unpack(MemorySource(packed), directory.path(), {});
    EXPECT_EQ(obd::test::read_all(*unpacked), content);
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory.path())) << "a file without a name";
}

TEST(Unpack, CutOffStreamIsRefused) {
  const TemporaryDirectory directory;
  const Bytes content = obd::test::to_bytes(noise(1 << 20));
  for (Bytes packed : {obd::test::gzip(content), obd::test::zstd(content)}) {
    packed.resize(packed.size() / 2);
    EXPECT_THAT(message_of<DataError>([&] { unpack(MemorySource(packed), directory.path(), {}); }),
                HasSubstr("unpacking it, at byte"));
  }
}

}  // namespace
}  // namespace obd::registry::test
