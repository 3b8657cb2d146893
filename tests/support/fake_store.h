#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "tests/support/fake_registry.h"

namespace httplib {
struct Request;
struct Response;
}  // namespace httplib

namespace obd::test {

/// What a fake registry keeps, and how it does its duty by the distribution protocol. What goes wrong, and
/// who may enter, is FakeRegistry's business, but for faults that are about what is kept.
///
/// Threads: one at a time.
class FakeStore {
 public:
  struct Manifest {
    std::string media_type;
    std::string content;
  };

  /// `options` must outlive this.
  explicit FakeStore(const FakeRegistry::Options& options) : options_(options) {}

  void do_duty(const httplib::Request& request, const RecordedRequest& recorded, httplib::Response& response,
               const std::optional<Fault>& fault);

  /// Under which repository's name a thing is kept, and its own: a digest, or a manifest's tag.
  using Key = std::pair<std::string, std::string>;
  Key key(const std::string& repository, const std::string& name) const {
    return {options_.separate_repositories ? repository : std::string(), name};
  }

  std::map<Key, std::string> blobs = {};
  std::map<Key, Manifest> manifests = {};           // by tag and by digest
  std::map<std::string, std::string> uploads = {};  // sessions that are open

 private:
  void handle_blob(const Key& blob, const RecordedRequest& recorded, httplib::Response& response,
                   bool ranges);
  void handle_manifest(const Key& manifest, const httplib::Request& request, httplib::Response& response,
                       bool forget);
  void handle_referrers(const Key& subject, const RecordedRequest& recorded, httplib::Response& response);
  bool has_all_parts(const std::string& repository, const std::string& manifest) const;
  void handle_mount(const Key& blob, const std::string& from, httplib::Response& response);
  /// The key's name is the session's.
  void handle_upload(const Key& upload, const httplib::Request& request, httplib::Response& response,
                     const std::optional<Fault>& fault);
  void answer_upload(const std::string& id, const httplib::Request& request, int status,
                     httplib::Response& response);

  const FakeRegistry::Options& options_;
  int next_upload_ = 1;
};

/// An error in the form that the distribution specification wants.
void answer_error(httplib::Response& response, int status, const std::string& code);

}  // namespace obd::test
