#include <cstddef>
#include <cstdint>

#include "common/error.h"
#include "registry/docker_archive.h"
#include "registry/index_document.h"
#include "registry/tar_index.h"
#include "tests/support/memory.h"
#include "tests/support/tar_builder.h"

namespace {

using namespace obd::registry;

std::string text_of(const obd::ByteSource& archive, const TarMember& file) {
  std::string text(file.size, '\0');
  archive.read_at(file.offset, std::as_writable_bytes(std::span(text)));
  return text;
}

template <class Action>
void refused_or_done(Action&& action) {
  try {
    action();
  } catch (const obd::Error&) {
  }
}

/// As if it were each document of an archive.
void read_documents(const std::string& text) {
  refused_or_done([&] { index_document::check_marker(text, "fuzz"); });
  refused_or_done([&] { index_document::find_tag(text, "t", "fuzz"); });
  refused_or_done([&] { index_document::entries(text, "fuzz"); });
  refused_or_done([&] {
    const LayoutEntry entry{obd::Digest::of("x"), 1, "a/b"};
    const std::string changed = index_document::with_tag(text, "t", entry, "fuzz");
    OBD_CHECK(index_document::find_tag(changed, "t", "fuzz").digest == entry.digest);
  });
  refused_or_done([&] { parse_diff_ids(text, "fuzz"); });
  refused_or_done([&] {
    const auto images = parse_docker_manifest(text, "fuzz");
    describe_docker_tags(images);
    for (const char* reference : {"t", "app:t", "localhost:5000/a/b:t"}) {
      refused_or_done([&] { find_docker_image(images, reference, "fuzz"); });
    }
  });
}

}  // namespace

/// Any tar archive is indexed within its bounds or refused, and so is any document in it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  obd::test::Bytes archive(bytes, bytes + size);
  read_documents({reinterpret_cast<const char*>(data), size});
  obd::test::fix_checksums(archive);
  const obd::test::MemorySource source(archive);
  refused_or_done([&] {
    const TarIndex index = read_tar_index(source, {});
    for (const auto& entry : index) {
      refused_or_done([&] {
        const TarMember* file = find_file(index, entry.first, "fuzz");
        if (file != nullptr) read_documents(text_of(source, *file));  // throws if it reached beyond the end
      });
    }
  });
  return 0;
}
