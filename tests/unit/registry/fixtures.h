#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>

#include "registry/challenge.h"
#include "registry/http_repository.h"
#include "tests/support/fake_registry.h"
#include "tests/support/noise.h"

namespace obd::registry::test {

/// A directory that is gone with its owner.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// What is logged while it lives.
class CapturedLog {
 public:
  CapturedLog();
  ~CapturedLog();
  std::string text() const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

/// Waits that a test can afford.
RetryPolicy quick_retries();

using obd::test::noise;

BlobId id_of(std::string_view content);

/// A small image manifest that is valid JSON; `marker` makes different ones.
std::string sample_manifest(const std::string& marker = "a");

std::string pull_text(Repository& repository, const BlobId& blob, std::stop_token stop = {});

/// Puts `content` into a spool of the repository and pushes it.
Digest push_text(Repository& repository, std::string_view content, std::stop_token stop = {});

inline std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The message of the `Expected` that `action` throws; a failure if it throws something else or nothing.
template <class Expected, class Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Expected& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception: " << error.what();
    return {};
  }
  ADD_FAILURE() << "no exception";
  return {};
}

/// A repository "acme/app" of a fake registry, spoken to over plain HTTP.
struct HttpFixture {
  explicit HttpFixture(obd::test::FakeRegistry::Options fake = {}, ClientOptions client = {});

  TemporaryDirectory work;
  obd::test::FakeRegistry registry;
  std::unique_ptr<HttpRepository> repository;
};

}  // namespace obd::registry::test
