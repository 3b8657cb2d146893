#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "blockfs/layer_tar.h"
#include "tests/support/streams.h"
#include "tests/support/tar_builder.h"

namespace obd::blockfs {

/// One member as LayerTar gave it, with its content, holes included.
struct ReadMember {
  TarEntry entry;
  std::string content;
};

/// All members. Checks that each piece of content is the archive's bytes at the place that is told for it.
inline std::vector<ReadMember> read_members(const test::Bytes& archive, size_t piece_bytes = SIZE_MAX) {
  test::PieceStream stream(archive, piece_bytes);
  LayerTar tar("layer", stream);
  std::vector<ReadMember> members;
  while (const TarEntry* entry = tar.next()) {
    ReadMember member{*entry, {}};
    if (entry->type == TarEntry::Type::kFile) member.content.resize(entry->size);
    while (const auto data = tar.next_data()) {
      const std::string text = test::to_text(data->bytes);
      EXPECT_EQ(text, test::to_text(std::span(archive).subspan(data->tar_offset, text.size())));
      member.content.replace(data->file_offset, text.size(), text);
    }
    members.push_back(std::move(member));
  }
  tar.drain();
  EXPECT_EQ(tar.position(), archive.size());
  return members;
}

inline ReadMember read_one(const test::Bytes& archive) {
  auto members = read_members(archive);
  EXPECT_EQ(members.size(), 1u);
  return members.empty() ? ReadMember{} : std::move(members.front());
}

/// The message of the TarError that reading throws.
inline std::string refusal(const test::Bytes& archive) {
  try {
    read_members(archive);
  } catch (const TarError& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception: " << error.what();
    return {};
  }
  ADD_FAILURE() << "it was accepted";
  return {};
}

}  // namespace obd::blockfs
