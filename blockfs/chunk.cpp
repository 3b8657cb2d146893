#include "blockfs/chunk.h"

namespace obd::blockfs {

std::shared_ptr<Chunk> ChunkPool::take() {
  std::unique_ptr<Chunk> chunk;
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->free.empty()) {
      chunk = std::move(state_->free.back());
      state_->free.pop_back();
    }
  }
  if (!chunk) {
    chunk = std::make_unique<Chunk>();
    chunk->storage.resize(kChunkBytes);
  }
  chunk->bytes = 0;
  return std::shared_ptr<Chunk>(chunk.release(), [state = state_](Chunk* used) {
    std::unique_ptr<Chunk> back(used);
    const std::lock_guard lock(state->mutex);
    state->free.push_back(std::move(back));
  });
}

}  // namespace obd::blockfs
