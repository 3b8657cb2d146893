// Conversions between registries of which requests go wrong: each request, in each way, and two at a time.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <functional>
#include <map>
#include <thread>

#include "common/digest.h"
#include "tests/support/random_choice.h"
#include "tests/unit/convertor/fault_world.h"

namespace obd::convertor {
namespace {

using test::Fault;
using testing::HasSubstr;
using testing::Not;

struct Way {
  std::string name;
  std::function<Fault(const World&, const World::Host&)> fault;
  /// One such failure is mended, whatever it hits.
  bool harmless = false;
  /// It takes time, but no work.
  bool slow = false;
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

std::vector<Way> ways() {
  using Kind = Fault::Kind;
  std::vector<Way> result;
  const auto add = [&](std::string name, Fault fault, bool harmless = false) {
    const bool slow = fault.kind == Kind::kSilent || fault.kind == Kind::kStall;
    result.push_back({std::move(name), [fault](const auto&, const auto&) { return fault; }, harmless, slow});
  };
  for (const int status : {400, 401, 403, 404, 405, 416})
    add(fmt::format("Status{}", status), {.status = status});
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    add(fmt::format("Status{}", status), {.status = status}, true);
  }
  result.push_back(
      {"ExpiredToken", [](const World&, const World::Host& host) {
         return Fault{.status = 401,
                      .headers = {{"WWW-Authenticate",
                                   fmt::format("Bearer realm=\"{}\",service=\"fake\"", host.token_realm)}}};
       }});
  result.push_back({"RedirectElsewhere", [](const World& world, const World::Host&) {
                      return Fault{.status = 307,
                                   .headers = {{"Location", fmt::format("http://{}/v2/x/blobs/uploads/",
                                                                        world.elsewhere().authority())}}};
                    }});
  const std::string other = Digest::of("other").text();
  add("Reset", {.kind = Kind::kReset}, true);
  add("ResetAfterwards", {.kind = Kind::kResetAfter}, true);
  add("FailedAfterwards", {.kind = Kind::kAfterwards, .status = 503}, true);
  add("Silent", {.kind = Kind::kSilent}, true);
  add("ShortBody", {.kind = Kind::kShortBody, .bytes = 30});
  add("StalledBody", {.kind = Kind::kStall, .bytes = 30});
  add("CorruptBody", {.kind = Kind::kCorrupt});
  add("PartialUpload", {.kind = Kind::kPartial, .status = 502, .bytes = 100});
  add("WrongDigestHeader", {.kind = Kind::kHeaders, .headers = {{"Docker-Content-Digest", other}}});
  add("NonsenseHeaders", {.kind = Kind::kHeaders,
                          .headers = {{"Docker-Content-Digest", "sha256:../../etc"},
                                      {"Location", "file:///etc/passwd"},
                                      {"Range", "bytes 1-x"},
                                      {"Content-Range", "x"}}});
  add("NoHeaders",
      {.kind = Kind::kHeaders, .headers = {{"Docker-Content-Digest", ""}, {"Location", ""}, {"Range", ""}}});
  add("NoLength", {.kind = Kind::kChunked}, true);
  add("HugeBody", {.kind = Kind::kHuge, .bytes = 5 << 20});
  result.push_back(
      {"HugeError",
       [](const World&, const World::Host&) {  // here, since every test's process copies the ways many times
         return Fault{.status = 404, .body = std::string(8 << 20, 'x')};
       }});
  return result;
}

/// What a conversion of the scene gives when nothing goes wrong.
struct Clean {
  std::string digest;
  std::vector<size_t> requests;  // by host
  size_t layers_sent = 0;
};

const Clean& clean(const Scene& scene) {
  static std::map<std::string, Clean> known;
  const auto found = known.find(scene.name);
  if (found != known.end()) return found->second;
  World world(scene);
  const size_t sent_before = world.target().requests("PATCH", "").size();
  EXPECT_EQ(world.convert(), "");
  Clean result{.digest = world.tagged().value_or(""), .requests = {}};
  result.layers_sent = world.target().requests("PATCH", "").size() - sent_before;
  if (!scene.known_reference.empty()) {
    Scene unknown = scene;
    unknown.name += "Not";
    unknown.known_reference.clear();
    EXPECT_EQ(result.digest, clean(unknown).digest);
    EXPECT_LT(result.layers_sent, clean(unknown).layers_sent);
  }
  world.check_lists(result.digest);
  world.check_secrets();
  for (const World::Host& host : world.hosts()) {
    result.requests.push_back(host.server->requests().size() - host.earlier);
  }
  return known.emplace(scene.name, std::move(result)).first->second;
}

void expect_clear(const std::string& failure) {
  for (const std::string& secret : World::secrets()) EXPECT_THAT(failure, Not(HasSubstr(secret)));
  EXPECT_LT(failure.size(), 2000u);
  // A damaged layer may be noticed first by who unpacks it.
  EXPECT_THAT(failure, testing::AnyOf(HasSubstr("127.0.0.1:"), HasSubstr("layer "))) << "it says what failed";
}

/// Converts: to the right image, or to a clear error and nothing that leads nowhere. Returns what went wrong.
std::string convert_and_check(World& world, const Scene& scene) {
  const std::string failure = world.convert();
  const auto tagged = world.tagged();
  EXPECT_EQ(tagged.value_or(clean(scene).digest), clean(scene).digest);
  world.check_lists(tagged);
  world.check_secrets();
  if (failure.empty()) {
    EXPECT_TRUE(tagged);
  } else {
    expect_clear(failure);
  }
  return failure;
}

/// What failed is found in order by the next run.
void expect_next_run_works(World& world, const Scene& scene) {
  for (const World::Host& host : world.hosts()) host.server->forget_faults();
  EXPECT_EQ(world.convert(), "");
  EXPECT_EQ(world.tagged(), clean(scene).digest);
  world.check_lists(clean(scene).digest);
}

template <class Param>
class QuietTest : public testing::TestWithParam<Param> {
 protected:
  static void SetUpTestSuite() { spdlog::set_level(spdlog::level::off); }
  static void TearDownTestSuite() { spdlog::set_level(spdlog::level::info); }
};

using FaultSweep = QuietTest<std::tuple<Scene, Way>>;

/// Of how many requests one goes wrong: all, but with sanitizers, for time.
constexpr size_t kStride = kIsSanitized ? 4 : 1;

void fail_one(const Scene& scene, const Way& way, size_t host, size_t n) {
  World world(scene);
  const World::Host& victim = world.hosts()[host];
  SCOPED_TRACE(fmt::format("request {} at the {}", n, victim.name));
  victim.server->fail_request(victim.earlier + n, way.fault(world, victim));
  const std::string failure = convert_and_check(world, scene);
  if (failure.empty()) return;
  if (way.harmless) ADD_FAILURE() << "not mended: " << failure;
  expect_next_run_works(world, scene);
}

TEST_P(FaultSweep, EndsInTheRightImageOrInAClearError) {
  const auto& [scene, way] = GetParam();
  std::vector<std::pair<size_t, size_t>> victims;  // host and request
  for (size_t host = 0; host < clean(scene).requests.size(); ++host) {
    for (size_t n = 0; n < clean(scene).requests[host]; ++n) victims.emplace_back(host, n);
  }
  std::atomic<size_t> next = std::hash<std::string>()(scene.name + way.name) % kStride;
  const auto work = [&, &the_scene = scene, &the_way = way] {
    for (size_t i = next.fetch_add(kStride); i < victims.size(); i = next.fetch_add(kStride)) {
      fail_one(the_scene, the_way, victims[i].first, victims[i].second);
    }
  };
  std::vector<std::jthread> threads;
  for (int i = 0; i < (way.slow ? 8 : 1); ++i) threads.emplace_back(work);
}

std::string name_of(const testing::TestParamInfo<std::tuple<Scene, Way>>& info) {
  return std::get<0>(info.param).name + std::get<1>(info.param).name;
}

/// With sanitizers every fourth pair has to do, each scene and each way among them.
std::vector<std::tuple<Scene, Way>> cases() {
  std::vector<std::tuple<Scene, Way>> result;
  const std::vector<Scene> all_scenes = scenes();
  const std::vector<Way> all_ways = ways();
  for (size_t scene = 0; scene < all_scenes.size(); ++scene) {
    for (size_t way = 0; way < all_ways.size(); ++way) {
      if (!kIsSanitized || (scene + way) % 4 == 0) result.emplace_back(all_scenes[scene], all_ways[way]);
    }
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(All, FaultSweep, testing::ValuesIn(cases()), name_of);

using TwoFaults = QuietTest<Scene>;

TEST_P(TwoFaults, EndInTheRightImageOrInAClearError) {
  const Scene& scene = GetParam();
  test::RandomChoice random;
  const std::vector<Way> all = ways();
  for (int round = 0; round < (kIsSanitized ? 10 : 40); ++round) {
    World world(scene);
    std::string plan = fmt::format("{}, round {}", random.trace(), round);
    for (int i = 0; i < 2; ++i) {
      const size_t host = random.below(clean(scene).requests.size());
      const World::Host& victim = world.hosts()[host];
      const Way& way = all[random.below(all.size())];
      const size_t n = random.below(clean(scene).requests[host]);
      plan += fmt::format("; request {} at the {}: {}", n, victim.name, way.name);
      victim.server->fail_request(victim.earlier + n, way.fault(world, victim));
    }
    SCOPED_TRACE(plan);
    if (!convert_and_check(world, scene).empty()) expect_next_run_works(world, scene);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TwoFaults, testing::ValuesIn(scenes()),
                         [](const auto& instance) { return instance.param.name; });

TEST(FinishedLayers, AreKeptWhenALaterOneFails) {
  World world(scenes().front());
  const auto& [upper, content] = source_layers().back();
  world.storage().put_blob(upper, "damaged");
  EXPECT_THAT(world.convert(), HasSubstr("layer 2"));
  EXPECT_FALSE(world.tagged());
  EXPECT_EQ(world.target().requests("PATCH", "").size(), 1u);
  EXPECT_EQ(world.target().open_uploads(), 0u);
  world.storage().put_blob(upper, content);
  EXPECT_EQ(world.convert(), "");
  EXPECT_EQ(world.target().requests("PATCH", "").size(), 2u);
}

}  // namespace
}  // namespace obd::convertor
