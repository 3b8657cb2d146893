#include "common/digest.h"

#include <gtest/gtest.h>

#include "common/error.h"

namespace obd {
namespace {

// FIPS 180-2, appendix B.1.
constexpr const char* kAbc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Digest, IsTheSameInOnePieceAndInMany) {
  EXPECT_EQ(Digest::of(std::string_view("abc")).text(), kAbc);
  Sha256 hash;
  for (const char c : std::string_view("abc")) hash.update(std::as_bytes(std::span(&c, 1)));
  EXPECT_EQ(hash.finish().text(), kAbc);
}

TEST(Digest, TakesOnlyTheCanonicalForm) {
  EXPECT_EQ(Digest::parse(kAbc).brief(), "ba7816bf8f01");
  for (const std::string& bad :
       {std::string(), std::string("sha256:"), std::string(kAbc).substr(7), std::string(kAbc) + "0",
        "sha512:" + std::string(kAbc).substr(7), "sha256:BA" + std::string(kAbc).substr(9),
        "sha256:/." + std::string(kAbc).substr(9)}) {
    EXPECT_FALSE(Digest::is_valid(bad)) << bad;
    EXPECT_THROW(Digest::parse(bad), DataError) << bad;
  }
}

}  // namespace
}  // namespace obd
