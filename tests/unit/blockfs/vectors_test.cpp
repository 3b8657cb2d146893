#include <gtest/gtest.h>

#include <filesystem>

#include "blockfs/layer_blob.h"
#include "blockfs/layer_stack.h"
#include "common/digest.h"

namespace obd::blockfs {
namespace {

Digest digest_of(const ByteSource& source) {
  Sha256 hash;
  std::vector<std::byte> buffer(1 << 20);
  for (uint64_t at = 0; at < source.size(); at += buffer.size()) {
    buffer.resize(std::min<uint64_t>(buffer.size(), source.size() - at));
    source.read_at(at, buffer);
    hash.update(buffer);
  }
  return hash.finish();
}

/// Blobs that the reference implementation wrote; the digests stand beside them.
class ReferenceBlobs : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(folder())) GTEST_SKIP() << "no reference blobs here";
  }
  std::filesystem::path folder() const { return std::filesystem::path(OBD_VECTORS) / GetParam(); }
  LayerBlob open(const char* name) const {
    return open_layer_blob(std::make_shared<FileSource>(folder() / name));
  }
};

TEST_P(ReferenceBlobs, LayersUnwrapToTheKnownBytes) {
  const LayerBlob lower = open("layer1.obd");
  const LayerBlob upper = open("layer2.obd");
  EXPECT_EQ(digest_of(*lower.lsmt).hex(), "79a46581fdc98fcd406dbf84eb3b91353d68255fc90f7ffb6b3eecafd99769ae");
  EXPECT_EQ(digest_of(*upper.lsmt).hex(), "45c5389baecd9142cad92353cf1c35f4f7953b95c1fe09b64b048615a7f5bd82");
  EXPECT_EQ(lower.layer->header().uuid, "11111111-2222-3333-4444-555555555555");
  EXPECT_EQ(lower.layer->header().parent_uuid, "");
  EXPECT_EQ(lower.layer->header().user_tag, "vector layer 1");
  EXPECT_EQ(upper.layer->header().uuid, "66666666-7777-8888-9999-aaaaaaaaaaaa");
  EXPECT_EQ(upper.layer->header().parent_uuid, lower.layer->header().uuid);
}

TEST_P(ReferenceBlobs, StacksMakeTheKnownDisks) {
  LayerStack stack({open("layer1.obd").layer});
  EXPECT_EQ(digest_of(stack).hex(), "61c85a59fd387ac2f70d43ed7c84852dd7e3f42b915bde2877fcb60977ec345e");
  stack.push(open("layer2.obd").layer);
  EXPECT_EQ(digest_of(stack).hex(), "e23708ad81306c0f09ff98223e790242b882d96d8ca41c28893767257888e74f");
}

std::string form_name(const testing::TestParamInfo<const char*>& form) {
  std::string name = form.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Forms, ReferenceBlobs,
                         testing::Values("lz4-4k-tar", "zstd-16k-tar", "lz4-64k-notar", "plain"), form_name);

}  // namespace
}  // namespace obd::blockfs
