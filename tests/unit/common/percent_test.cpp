#include "common/percent.h"

#include <gtest/gtest.h>

namespace obd {
namespace {

TEST(Percent, EncodesAllButTheUnreserved) {
  EXPECT_EQ(percent_encode("aZ09-._~"), "aZ09-._~");
  EXPECT_EQ(percent_encode("a b/:@\xFF"), "a%20b%2F%3A%40%FF");
}

TEST(Percent, DecodesWhatItEncodes) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  EXPECT_EQ(percent_decode(percent_encode(all)), all);
  EXPECT_EQ(percent_decode("%2f%2F"), "//");
}

TEST(Percent, RefusesWhatIsNoEscape) {
  for (const char* text : {"%", "%4", "a%", "%g0", "%0g", "%-1", "%+1", "% 1", "%0x"}) {
    EXPECT_EQ(percent_decode(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace obd
