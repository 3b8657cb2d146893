#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "blockfs/layer_blob.h"
#include "blockfs/layer_stack.h"
#include "common/error.h"
#include "tests/support/memory.h"

namespace {

/// A disk may claim any size; only what is mapped is worth reading.
void read_mapped(const obd::blockfs::LayerStack& stack) {
  obd::test::Bytes piece;
  for (const auto& extent : stack.extents()) {
    const uint64_t start = extent.entry.sector * obd::blockfs::kSectorBytes;
    if (start >= stack.size()) continue;
    const uint64_t bytes = uint64_t{extent.entry.sectors} * obd::blockfs::kSectorBytes;
    piece.resize(std::min<uint64_t>(bytes, stack.size() - start));
    stack.read_at(start, piece);
  }
}

}  // namespace

/// A layer blob with any wrappers, alone and as both layers of a stack.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  try {
    const auto blob =
        obd::blockfs::open_layer_blob(obd::test::source_of(obd::test::Bytes(bytes, bytes + size)));
    obd::blockfs::LayerStack stack;
    stack.push(blob.layer);
    read_mapped(stack);
    stack.push(blob.layer);
    read_mapped(stack);
  } catch (const obd::DataError&) {
  }
  return 0;
}
