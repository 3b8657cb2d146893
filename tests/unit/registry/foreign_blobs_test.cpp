#include "registry/foreign_blobs.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::FakeRegistry;
using obd::test::Fault;
using obd::test::RecordedRequest;
using testing::HasSubstr;
using testing::Not;

using Urls = std::vector<std::string>;

constexpr size_t kBlobBytes = 300'000;

/// Sets a variable of the environment while it lives.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

/// All that a request may have in it, so that nothing of us can hide in a header that nobody thought of.
void expect_anonymous(const FakeRegistry& host) {
  const std::set<std::string> harmless = {"host",       "user-agent",  "accept",     "range",
                                          "local_addr", "remote_addr", "local_port", "remote_port"};
  for (const RecordedRequest& request : host.requests()) {
    EXPECT_EQ(request.method, "GET");
    EXPECT_EQ(request.body_bytes, 0u);
    for (const auto& [name, value] : request.headers) {
      EXPECT_TRUE(harmless.contains(name)) << name << ": " << value;
    }
  }
}

class Foreign : public testing::Test {
 protected:
  Foreign() : content_(noise(kBlobBytes)), id_(id_of(content_)) {}

  /// A URL of the blob at `host`, with a signature that nobody may see.
  std::string url(const FakeRegistry& host, const std::string& directory = "layers") const {
    return fmt::format("http://{}/v2/{}/blobs/{}?signature=s3cret", host.authority(), directory,
                       id_.digest.text());
  }
  void put(FakeRegistry& host, const std::string& content) { host.put_blob(id_.digest.text(), content); }
  std::string pull(const Urls& urls) {
    ForeignBlobs blobs(
        {.work_directory = work_.path(), .spool_memory_bytes = 64 << 10, .retry = quick_retries()});
    std::string text;
    blobs.pull(id_, urls, [&](std::span<const std::byte> data) { text += text_of(data); }, {});
    return text;
  }
  template <class Expected>
  std::string failure(const Urls& urls) {
    const std::string message = message_of<Expected>([&] { pull(urls); });
    EXPECT_THAT(message, HasSubstr(id_.digest.text()));
    EXPECT_THAT(message, Not(HasSubstr("s3cret")));
    EXPECT_THAT(message, Not(HasSubstr("signature")));
    return message;
  }

  TemporaryDirectory work_;
  const std::string content_;
  const BlobId id_;
  FakeRegistry host_;
  FakeRegistry other_;
};

TEST_F(Foreign, BlobComesFromItsUrlAndNobodyLearnsWhoAsked) {
  put(host_, content_);
  EXPECT_EQ(pull({url(host_)}), content_);
  ASSERT_EQ(host_.requests().size(), 1u);
  EXPECT_EQ(host_.requests()[0].query, "signature=s3cret");
  expect_anonymous(host_);
}

TEST_F(Foreign, NoLoginIsLookedForWhereOneIsAskedFor) {
  std::ofstream(work_.path() / "auth.json") << fmt::format(
      R"({{"auths":{{"{}":{{"username":"user","password":"pa55word"}}}}}})", host_.authority());
  std::ofstream(work_.path() / ".netrc") << "default login user password pa55word\n";
  const Variable auth_file("REGISTRY_AUTH_FILE", work_.path() / "auth.json");
  const Variable home("HOME", work_.path());
  for (const char* challenge :
       {"Basic realm=\"x\"", "Bearer realm=\"http://127.0.0.1:1/token\"", "Negotiate", "NTLM"}) {
    host_.inject("GET", "", {.status = 401, .headers = {{"WWW-Authenticate", challenge}}});
    EXPECT_THAT(failure<NetworkError>({url(host_)}), HasSubstr("status 401"));
  }
  EXPECT_EQ(host_.requests().size(), 4u) << "nobody tries again";
  expect_anonymous(host_);
}

TEST_F(Foreign, RedirectIsFollowedWithoutCookies) {
  put(other_, content_);
  host_.inject("GET", "",
               {.status = 302,
                .headers = {{"Location", url(other_)}, {"Set-Cookie", "id=7; Path=/; Domain=127.0.0.1"}}});
  EXPECT_EQ(pull({url(host_)}), content_);
  EXPECT_EQ(other_.requests().size(), 1u);
  expect_anonymous(host_);
  expect_anonymous(other_);
}

TEST_F(Foreign, RedirectToTheRegistryCarriesNoLoginOfOurs) {
  HttpFixture closed({.authorization = basic_authorization("user", "pa55word")},
                     {.credential = Credential{"user", "pa55word"}});
  put(closed.registry, content_);
  EXPECT_EQ(pull_text(*closed.repository, id_), content_) << "it is known to us by now";
  const size_t before = closed.registry.requests().size();
  host_.redirect("GET", "", url(closed.registry));
  EXPECT_THAT(failure<NetworkError>({url(host_)}),
              testing::AllOf(HasSubstr("401"), HasSubstr(closed.registry.authority())));
  const auto requests = closed.registry.requests();
  ASSERT_EQ(requests.size(), before + 1);
  EXPECT_EQ(requests.back().header("authorization"), "");
}

TEST_F(Foreign, RedirectsAreCountedAndChecked) {
  host_.redirect("GET", "/round/", url(host_, "round"));
  EXPECT_THAT(failure<NetworkError>({url(host_, "round")}), HasSubstr("redirects"));
  const std::string with_login = fmt::format("http://user:pa55word@{}/s3cret", other_.authority());
  for (const std::string& target : Urls{"ftp://127.0.0.1/layer", "file:///etc/passwd", with_login}) {
    host_.inject("GET", "", {.status = 302, .headers = {{"Location", target}}});
    const std::string message = failure<NetworkError>({url(host_)});
    EXPECT_THAT(message, HasSubstr("not followed"));
    EXPECT_THAT(message, Not(HasSubstr("pa55word")));
  }
  EXPECT_TRUE(other_.requests().empty());
}

TEST_F(Foreign, NextUrlIsTriedWhereOneHasNothing) {
  put(other_, content_);
  EXPECT_EQ(pull({url(host_), url(other_)}), content_);
  EXPECT_EQ(host_.requests().size(), 1u) << "404 is not tried again";
}

TEST_F(Foreign, NothingOfWrongContentReachesTheConsumer) {
  std::string wrong = content_;
  wrong.back() = static_cast<char>(wrong.back() ^ 1);
  put(host_, wrong);
  put(other_, content_);
  EXPECT_EQ(pull({url(host_), url(other_)}), content_);
  EXPECT_THAT(failure<DataError>({url(host_)}), HasSubstr(Digest::of(wrong).text()));
}

TEST_F(Foreign, ContentOfAnotherSizeIsRefused) {
  for (const std::string& wrong : {content_ + "x", content_.substr(1)}) {
    put(host_, wrong);
    EXPECT_THAT(failure<DataError>({url(host_)}), HasSubstr(fmt::format("has {} bytes", wrong.size())));
  }
  put(host_, "");
  EXPECT_THAT(failure<NetworkError>({url(host_)}), HasSubstr("ended at byte 0"));
}

TEST_F(Foreign, BodyWithoutALengthIsCutAtTheSizeOfTheBlob) {
  put(host_, content_ + noise(10'000'000));
  host_.inject("GET", "", {.kind = Fault::Kind::kChunked});
  EXPECT_THAT(failure<DataError>({url(host_)}), HasSubstr("more bytes"));
  put(host_, content_.substr(0, 100'000));
  host_.inject("GET", "", {.kind = Fault::Kind::kChunked}, 2);
  failure<Error>({url(host_)});
}

TEST_F(Foreign, TransferIsResumedAndOverloadIsWaitedFor) {
  put(host_, content_);
  host_.inject("GET", "", {.status = 503, .headers = {{"Retry-After", "0"}}});
  host_.inject("GET", "", {.kind = Fault::Kind::kShortBody, .bytes = 100'000});
  EXPECT_EQ(pull({url(host_)}), content_);
  ASSERT_EQ(host_.requests().size(), 3u);
  EXPECT_EQ(host_.requests()[2].header("range"), fmt::format("bytes=100000-{}", kBlobBytes - 1));
  expect_anonymous(host_);
}

TEST_F(Foreign, BrokenTransferIsBegunAnewWithTheNextUrl) {
  put(host_, noise(kBlobBytes, 2));
  put(other_, content_);
  host_.inject("GET", "", {.kind = Fault::Kind::kShortBody, .bytes = 100'000}, 1);
  host_.inject("GET", "", {.status = 404}, 100);
  EXPECT_EQ(pull({url(host_), url(other_)}), content_);
  EXPECT_EQ(other_.requests().at(0).header("range"), "");
}

TEST_F(Foreign, ErrorSaysWhatEachUrlLedTo) {
  host_.inject("GET", "", {.status = 403, .body = "no access with signature=s3cret"}, 100);
  put(other_, "short");
  const std::string message = failure<NetworkError>(
      {"ftp://example.org/x?s3cret", "http://user:pa55word@example.org/", "no URL", url(host_), url(other_)});
  EXPECT_THAT(message, HasSubstr("URL 1 of 5: a URL of scheme 'ftp'"));
  EXPECT_THAT(message, HasSubstr("URL 2 of 5: a URL that holds credentials"));
  EXPECT_THAT(message, HasSubstr("URL 3 of 5: not a valid"));
  EXPECT_THAT(message, HasSubstr(fmt::format("URL 4 of 5: GET http://{}/v2/layers/", host_.authority())));
  EXPECT_THAT(message, HasSubstr("status 403"));
  EXPECT_THAT(message, HasSubstr(fmt::format("URL 5 of 5: http://{}/", other_.authority())));
  EXPECT_THAT(message, Not(HasSubstr("pa55word")));
}

TEST_F(Foreign, BlobWithoutUrlsIsRefused) {
  EXPECT_THAT(failure<DataError>({}), HasSubstr("names no URL"));
}

TEST_F(Foreign, EmptyBlobIsOne) {
  const BlobId empty = id_of("");
  host_.put_blob(empty.digest.text(), "");
  ForeignBlobs blobs({.work_directory = work_.path(), .retry = quick_retries()});
  blobs.pull(empty, {fmt::format("http://{}/v2/a/blobs/{}", host_.authority(), empty.digest.text())},
             [](auto) { ADD_FAILURE() << "there is nothing in it"; }, {});
}

TEST_F(Foreign, StopEndsIt) {
  std::stop_source source;
  host_.on_request([&](const RecordedRequest&) { source.request_stop(); });
  ForeignBlobs blobs({.work_directory = work_.path(), .retry = quick_retries()});
  EXPECT_THROW(blobs.pull(
                   id_, {url(host_), url(other_)}, [](auto) {}, source.get_token()),
               Cancelled);
  EXPECT_TRUE(other_.requests().empty());
}

TEST(HostsOf, AreNamedOnceAndWithoutAnythingElse) {
  EXPECT_EQ(hosts_of({"https://A.example/x?s3cret", "http://a.example:81/", "http://b.example/y",
                      "ftp://c.example/", "http://user:pa55word@d.example/"}),
            "a.example, b.example");
  EXPECT_EQ(hosts_of({}), "");
}

}  // namespace
}  // namespace obd::registry::test
