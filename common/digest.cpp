#include "common/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>

#include "common/c_handle.h"
#include "common/error.h"

namespace obd {
namespace {

constexpr std::string_view kPrefix = "sha256:";

}  // namespace

bool Digest::is_valid(std::string_view text) {
  if (text.size() != kPrefix.size() + 64 || !text.starts_with(kPrefix)) return false;
  return std::all_of(text.begin() + kPrefix.size(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Digest Digest::parse(std::string_view text, std::string_view where) {
  if (!is_valid(text)) {
    throw DataError(fmt::format("{}{}'{}' is not a digest of the form sha256:<64 lower-case hex digits>",
                                where, where.empty() ? "" : ": ", text.substr(0, 100)));
  }
  return Digest(std::string(text));
}

Digest Digest::from_bytes(const std::array<std::byte, 32>& bytes) {
  std::string text(kPrefix);
  for (std::byte b : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return Digest(std::move(text));
}

Digest Digest::of(std::span<const std::byte> data) {
  Sha256 hash;
  hash.update(data);
  return hash.finish();
}

Digest Digest::of(std::string_view data) {
  return of(std::as_bytes(std::span(data)));
}

struct Sha256::State {
  CHandle<EVP_MD_CTX, EVP_MD_CTX_free> context{EVP_MD_CTX_new()};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  OBD_CHECK(state_->context && EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> data) {
  OBD_CHECK(EVP_DigestUpdate(state_->context.get(), data.data(), data.size()) == 1);
}

Digest Sha256::finish() {
  std::array<std::byte, 32> bytes{};
  OBD_CHECK(EVP_DigestFinal_ex(state_->context.get(), reinterpret_cast<unsigned char*>(bytes.data()),
                               nullptr) == 1);
  return Digest::from_bytes(bytes);
}

}  // namespace obd
