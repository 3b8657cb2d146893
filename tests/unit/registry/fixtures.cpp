#include "tests/unit/registry/fixtures.h"

#include <fmt/format.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <sstream>

namespace obd::registry::test {

namespace fs = std::filesystem;

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (fs::temp_directory_path() / "obd-registry-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw IoError::from_errno(name, errno);
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code error;
  fs::remove_all(path_, error);
}

struct CapturedLog::State {
  const std::shared_ptr<spdlog::logger> before = spdlog::default_logger();
  std::ostringstream text = {};
};

CapturedLog::CapturedLog() : state_(std::make_unique<State>()) {
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "captured", std::make_shared<spdlog::sinks::ostream_sink_mt>(state_->text)));
}

CapturedLog::~CapturedLog() {
  spdlog::set_default_logger(state_->before);
}

std::string CapturedLog::text() const {
  return state_->text.str();
}

RetryPolicy quick_retries() {
  return {.tries = 3,
          .first_delay = std::chrono::milliseconds(1),
          .max_delay = std::chrono::milliseconds(4),
          .max_retry_after = std::chrono::milliseconds(50),
          .settle = std::chrono::milliseconds(1)};
}

BlobId id_of(std::string_view content) {
  return {Digest::of(content), content.size()};
}

std::string sample_manifest(const std::string& marker) {
  return fmt::format(
      R"({{"schemaVersion":2,"mediaType":"{}","config":{{}},"layers":[],"annotations":{{"marker":"{}"}}}})",
      media_type::kOciManifest, marker);
}

std::string pull_text(Repository& repository, const BlobId& blob, std::stop_token stop) {
  std::string text;
  repository.pull_blob(
      blob,
      [&](std::span<const std::byte> data) {
        text.append(reinterpret_cast<const char*>(data.data()), data.size());
      },
      std::move(stop));
  return text;
}

Digest push_text(Repository& repository, std::string_view content, std::stop_token stop) {
  const std::shared_ptr<Spool> spool = repository.new_spool();
  spool->append(std::as_bytes(std::span(content)));
  return repository.push_spool(spool, std::move(stop));
}

HttpFixture::HttpFixture(obd::test::FakeRegistry::Options fake, ClientOptions client)
    : registry(std::move(fake)) {
  client.plain_http = true;
  client.retry = quick_retries();
  repository = std::make_unique<HttpRepository>(
      parse_repository_name(registry.authority() + "/acme/app"),
      HttpRepository::Options{
          .client = std::move(client), .work_directory = work.path(), .spool_memory_bytes = 1 << 20});
}

}  // namespace obd::registry::test
