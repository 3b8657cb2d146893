#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "convertor/options.h"
#include "dedupdb/dedup_db.h"
#include "registry/client.h"
#include "tests/support/fake_registry.h"
#include "tests/support/temporary_directory.h"

namespace obd::convertor {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;  // a conversion takes several times as long
#else
inline constexpr bool kIsSanitized = false;
#endif

/// A kind of conversion between registries that want tokens, each of an issuer of its own.
struct Scene {
  std::string name;
  std::string reference = "image";  // or "index"
  ConvertOptions options = {};
  /// Where the result goes: another registry, or a repository of the source's.
  bool other_registry = false;
  std::string target_path = "acme/app";
  test::FakeRegistry::Options registry = {};  // of all registries
  /// We log in with identity tokens, which are for POST; else with passwords.
  bool identity_tokens = false;
  registry::ParallelOptions parallel = {};
  /// There is a database, and this was converted before, in this repository.
  std::string known_reference = {};
  std::string known_path = {};
};
std::vector<Scene> scenes();
void PrintTo(const Scene& scene, std::ostream* out);  // for gtest

/// Everything that one conversion of the scene talks to, and a host that is none of its business.
class World {
 public:
  explicit World(const Scene& scene);

  /// What could be asked something, with the place where its tokens come from.
  struct Host {
    std::string name;
    test::FakeRegistry* server;
    std::string token_realm;
    /// Requests before the conversion.
    size_t earlier = 0;
  };
  const std::vector<Host>& hosts() const { return hosts_; }
  const test::FakeRegistry& elsewhere() const { return elsewhere_; }
  test::FakeRegistry& storage() { return storage_; }
  test::FakeRegistry& target() { return target_ ? *target_ : source_; }
  const test::FakeRegistry& target() const { return target_ ? *target_ : source_; }

  /// Converts to the tag "out". What went wrong; empty if nothing did.
  std::string convert();

  /// The digest that the tag names, if it is there, after all that it leads to was looked at.
  std::optional<std::string> tagged() const;
  /// Fails the test if a list of referrers under a tag names what is not there, or no list names `digest`
  /// where one should.
  void check_lists(const std::optional<std::string>& digest) const;
  /// Fails the test if a host has seen a secret that is not for it.
  void check_secrets() const;
  /// All secrets there are.
  static std::vector<std::string> secrets();

 private:
  struct Run {
    std::string reference;
    std::string path;
    std::string tag;
  };
  std::string convert(const Run& run);
  std::unique_ptr<registry::Repository> open(const test::FakeRegistry& server, const std::string& path) const;
  void check_tree(const std::string& manifest) const;

  const Scene scene_;
  test::TemporaryDirectory directory_;
  test::FakeRegistry source_issuer_;
  test::FakeRegistry target_issuer_;
  test::FakeRegistry storage_;
  test::FakeRegistry elsewhere_;
  test::FakeRegistry source_;
  std::unique_ptr<test::FakeRegistry> target_;  // null: the source's
  std::unique_ptr<dedupdb::DedupDb> db_;
  std::vector<Host> hosts_;
};

/// The layers of "image", lowest first, as the source has them.
const std::vector<std::pair<std::string, std::string>>& source_layers();

}  // namespace obd::convertor
