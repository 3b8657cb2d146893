#include "registry/transport.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <thread>

#include "tests/support/scripted_server.h"
#include "tests/unit/registry/fixtures.h"

namespace obd::registry::test {
namespace {

using obd::test::FakeRegistry;
using obd::test::Fault;

class TransportTest : public testing::Test {
 protected:
  HttpRequest get(const std::string& path) {
    return {.method = "GET", .url = Url::parse("http://" + server_.authority() + path)};
  }

  FakeRegistry server_;
  Transport transport_{{}};
};

TEST_F(TransportTest, AnswersHaveStatusHeadersAndBody) {
  server_.inject("", "", {.status = 418, .headers = {{"X-Kind", " teapot "}}, .body = "short and stout"});
  const HttpResponse response = transport_.exchange(get("/"), {});
  EXPECT_EQ(response.status, 418);
  EXPECT_EQ(response.header("x-kind"), "teapot");
  EXPECT_EQ(response.header("x-other"), std::nullopt);
  EXPECT_EQ(response.body, "short and stout");
  EXPECT_FALSE(response.ok());
}

TEST_F(TransportTest, WhatASinkThrowsReachesTheCaller) {
  server_.inject("", "", {.status = 200, .body = "body"});
  HttpRequest request = get("/");
  request.sink = [](auto&, auto) -> bool { throw DataError("from the sink"); };
  EXPECT_THAT(message_of<DataError>([&] { transport_.exchange(request, {}); }),
              testing::StrEq("from the sink"));
}

TEST_F(TransportTest, WhatABodyThrowsReachesTheCaller) {
  HttpRequest request = get("/v2/a/blobs/uploads/");
  request.method = "POST";
  request.body = RequestBody{10, [](uint64_t, std::span<std::byte>) { throw IoError("from the body"); }};
  EXPECT_THAT(message_of<IoError>([&] { transport_.exchange(request, {}); }),
              testing::StrEq("from the body"));
}

TEST_F(TransportTest, SinkMayHaveEnough) {
  server_.inject("", "", {.status = 200, .body = std::string(8 << 20, 'x')});
  uint64_t taken = 0;
  HttpRequest request = get("/");
  request.sink = [&](auto&, auto data) {
    taken += data.size();
    return false;
  };
  EXPECT_EQ(transport_.exchange(request, {}).status, 200);
  EXPECT_LE(taken, 1u << 20);
}

TEST_F(TransportTest, SinkSeesNoBodyOfAFailure) {
  server_.inject("", "", {.status = 500, .body = "sorry"});
  HttpRequest request = get("/");
  request.sink = [](auto&, auto) -> bool { throw DataError("not for the sink"); };
  EXPECT_EQ(transport_.exchange(request, {}).body, "sorry");
}

TEST_F(TransportTest, HeadersHaveACap) {
  std::vector<std::pair<std::string, std::string>> headers;
  for (int i = 0; i < 100; ++i) headers.emplace_back(fmt::format("X-{}", i), std::string(4000, 'x'));
  server_.inject("", "", {.status = 200, .headers = headers});
  EXPECT_THROW(transport_.exchange(get("/"), {}), DataError);
}

TEST_F(TransportTest, ShortAnswerIsRetryable) {
  const std::string content = noise(100'000);
  server_.put_blob(Digest::of(content).text(), content);
  server_.inject("", "", {.kind = Fault::Kind::kShortBody, .bytes = 10});
  try {
    HttpRequest request = get("/v2/a/blobs/" + Digest::of(content).text());
    request.max_body_bytes = 1 << 20;
    transport_.exchange(request, {});
    FAIL();
  } catch (const TransportError& error) {
    EXPECT_EQ(error.kind(), TransportError::Kind::kBroken);
    EXPECT_TRUE(error.retryable());
  }
}

TEST_F(TransportTest, DeadlineEndsARequestThatMayHang) {
  const std::string content = noise(1000);
  server_.put_blob(Digest::of(content).text(), content);
  server_.inject("", "", {.kind = Fault::Kind::kStall, .bytes = 10});
  HttpRequest request = get("/v2/a/blobs/" + Digest::of(content).text());
  request.deadline = std::chrono::milliseconds(100);
  EXPECT_THROW(transport_.exchange(request, {}), TransportError);
}

TEST_F(TransportTest, AnswerToABodyMayTakeAsLongAsACommit) {
  using std::chrono::milliseconds;
  obd::test::ScriptedServer server([](obd::test::Conversation& client) {
    client.read_head();
    client.write("HTTP/1.1 100 Continue\r\n\r\n");
    client.skip(100'000);
    std::this_thread::sleep_for(milliseconds(600));
    client.write("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
  });
  const std::string content = noise(100'000);
  const auto status = [&](milliseconds commit_timeout, const char* method) {
    Transport transport({.stall_timeout = milliseconds(200), .commit_timeout = commit_timeout});
    HttpRequest request{.method = method, .url = Url::parse("http://" + server.authority())};
    if (request.method == "PATCH") request.body = body_of(content);
    return transport.exchange(request, {}).status;
  };
  EXPECT_EQ(status(milliseconds(60'000), "PATCH"), 202);
  EXPECT_THROW(status(milliseconds(300), "PATCH"), TransportError);
}

TEST_F(TransportTest, OnlyWhatASinkTakesMayDrip) {
  using std::chrono::milliseconds;
  const auto drip = [](const std::string& head, bool with_sink) {
    obd::test::ScriptedServer server([&](obd::test::Conversation& client) {
      client.read_head();
      client.write(head);
      for (int i = 0; i < 30; ++i) {
        std::this_thread::sleep_for(milliseconds(20));
        if (!client.write("a")) return;
      }
    });
    Transport transport({.answer_timeout = milliseconds(300)});
    HttpRequest request{.method = "GET", .url = Url::parse("http://" + server.authority())};
    if (with_sink) request.sink = [](auto&, auto) { return true; };
    return transport.exchange(request, {}).status;
  };
  const std::string length = "Content-Length: 30\r\n\r\n";
  EXPECT_EQ(drip("HTTP/1.1 200 OK\r\n" + length, true), 200);
  EXPECT_THROW(drip("HTTP/1.1 200 OK\r\n" + length, false), TransportError);
  EXPECT_THROW(drip("HTTP/1.1 500 No\r\n" + length, true), TransportError);
  EXPECT_THROW(drip("HTTP/1.1 200 OK\r\nX-Slow: ", true), TransportError);
}

TEST_F(TransportTest, RedirectAfterPostGoesOnAsGetOnlyWith303) {
  server_.put_blob(Digest::of("x").text(), "x");
  HttpRequest request = get("/somewhere");
  request.method = "POST";
  request.body = RequestBody{0, [](uint64_t, std::span<std::byte>) {}};
  server_.inject("POST", "",
                 {.status = 302, .headers = {{"Location", "/v2/a/blobs/" + Digest::of("x").text()}}});
  EXPECT_EQ(exchange_following(transport_, request, {}).status, 302);
}

}  // namespace
}  // namespace obd::registry::test
