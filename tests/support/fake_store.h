#pragma once

#include <map>
#include <optional>
#include <string>

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

  std::map<std::string, std::string> blobs = {};    // by digest
  std::map<std::string, Manifest> manifests = {};   // by tag and by digest
  std::map<std::string, std::string> uploads = {};  // sessions that are open

 private:
  void handle_blob(const std::string& digest, const RecordedRequest& recorded, httplib::Response& response,
                   bool ranges);
  void handle_manifest(const std::string& reference, const httplib::Request& request,
                       httplib::Response& response, bool forget);
  void handle_referrers(const std::string& subject, const RecordedRequest& recorded,
                        httplib::Response& response);
  bool has_all_blobs(const std::string& manifest) const;
  void handle_upload(const std::string& id, const httplib::Request& request, httplib::Response& response,
                     const std::optional<Fault>& fault);
  void answer_upload(const std::string& id, const httplib::Request& request, int status,
                     httplib::Response& response);

  const FakeRegistry::Options& options_;
  int next_upload_ = 1;
};

/// An error in the form that the distribution specification wants.
void answer_error(httplib::Response& response, int status, const std::string& code);

}  // namespace obd::test
