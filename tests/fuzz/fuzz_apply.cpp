#include <cstddef>
#include <cstdint>

#include "blockfs/ext4/layer_applier.h"
#include "blockfs/layer_tar.h"
#include "common/error.h"
#include "tests/support/streams.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/blockfs/ext4/image_disk.h"

namespace {

using obd::blockfs::ImageDisk;

/// Applies the archive to a new disk, then to what came of it, read back.
void apply_twice(const obd::test::Bytes& archive) {
  ImageDisk image({.budget_bytes = 4 << 20, .reopen = true, .piece_bytes = 1000});
  image.apply(archive);
  image.apply(archive);
  image.listing();
}

}  // namespace

/// Any archive is applied or refused with an error of ours.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  obd::test::Bytes archive(bytes, bytes + size);
  obd::test::fix_checksums(archive);
  try {
    apply_twice(archive);
  } catch (const obd::Error&) {
  }
  return 0;
}
