#include "blockfs/crc32c.h"

#include <gtest/gtest.h>

#include "tests/support/memory.h"

namespace obd::blockfs {
namespace {

TEST(Crc32c, IsTheRawFormOfTheKnownCheckValue) {
  const auto digits = test::to_bytes("123456789");
  EXPECT_EQ(~crc32c_raw(0xFFFFFFFF, digits), 0xE3069283U);
}

TEST(Crc32c, OfNothingIsTheSeed) {
  EXPECT_EQ(crc32c_raw(100007, {}), 100007U);
}

TEST(Crc32c, GoesOnWhereItStopped) {
  const auto text = test::to_bytes("one half and the other");
  const std::span all(text);
  EXPECT_EQ(crc32c_raw(crc32c_raw(7, all.first(9)), all.subspan(9)), crc32c_raw(7, all));
}

}  // namespace
}  // namespace obd::blockfs
