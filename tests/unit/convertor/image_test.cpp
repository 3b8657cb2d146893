#include "convertor/image.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "tests/support/json.h"

namespace obd::convertor {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

Digest digest_of(char digit) {
  return Digest::parse("sha256:" + std::string(64, digit));
}

Descriptor descriptor(char digit, uint64_t size = 7) {
  return {.media_type = "type/" + std::string(1, digit),
          .digest = digest_of(digit),
          .size = size,
          .annotations = {},
          .platform = {}};
}

registry::Manifest manifest_of(const std::string& bytes) {
  return {.media_type = "", .bytes = bytes, .digest = Digest::of(bytes)};
}

std::string descriptor_text(char digit) {
  return fmt::format(R"({{"mediaType":"a/b","digest":"{}","size":5}})", digest_of(digit).text());
}

std::string data_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const DataError& error) {
    return error.what();
  }
  ADD_FAILURE() << "it was accepted";
  return {};
}

TEST(ParseManifest, ReadsConfigAndLayersInOrder) {
  const auto manifest =
      parse_manifest(manifest_of(fmt::format(R"({{"config":{},"layers":[{},{}]}})", descriptor_text('a'),
                                             descriptor_text('b'), descriptor_text('c'))));
  EXPECT_EQ(manifest.config.digest, digest_of('a'));
  ASSERT_EQ(manifest.layers.size(), 2u);
  EXPECT_EQ(manifest.layers[1].digest, digest_of('c'));
  EXPECT_EQ(manifest.layers[1].size, 5u);
  EXPECT_EQ(manifest.layers[1].media_type, "a/b");
}

TEST(ParseManifest, MissingAndMistypedFieldsAreRefusedByName) {
  const std::string good =
      fmt::format(R"({{"config":{},"layers":[{}]}})", descriptor_text('a'), descriptor_text('b'));
  ASSERT_NO_THROW(parse_manifest(manifest_of(good)));
  const auto refused = [&](const std::string& pointer, const Json& value) {
    Json json = test::json_of(good);
    json[Json::json_pointer(pointer)] = value;
    return data_error([&] { parse_manifest(manifest_of(json.dump())); });
  };
  for (const char* field : {"mediaType", "digest", "size"}) {
    Json json = test::json_of(good);
    json["layers"][0].erase(field);
    EXPECT_THAT(data_error([&] { parse_manifest(manifest_of(json.dump())); }),
                testing::AllOf(HasSubstr("layer 1"), HasSubstr(field)));
    EXPECT_THAT(refused(fmt::format("/config/{}", field), Json::array()), HasSubstr("config"));
  }
  for (const Json& size : {Json(-1), Json(1.5), Json("5"), Json(UINT64_MAX), Json(nullptr)}) {
    EXPECT_THAT(refused("/layers/0/size", size), HasSubstr("size")) << size;
  }
  for (const char* digest : {"", "sha256:", "sha256:abc", "sha512:aa", "md5:1"}) {
    EXPECT_FALSE(refused("/layers/0/digest", digest).empty());
  }
  EXPECT_THAT(refused("/layers", Json::object()), HasSubstr("'layers' is not a list"));
  EXPECT_THAT(refused("/layers/0", "text"), HasSubstr("layer 1"));
  EXPECT_THAT(refused("/config", 5), HasSubstr("config"));
  for (const char* text : {"", "[]", "5", "null", "{", "{}", "{\"config\":{}}", "\xFF"}) {
    EXPECT_FALSE(data_error([&] { parse_manifest(manifest_of(text)); }).empty()) << text;
  }
}

TEST(ParseManifest, MoreLayersThanAnyImageHasAreRefused) {
  Json json = {{"config", test::json_of(descriptor_text('a'))}, {"layers", Json::array()}};
  for (int i = 0; i <= 1000; ++i) json["layers"].push_back(test::json_of(descriptor_text('b')));
  EXPECT_THAT(data_error([&] { parse_manifest(manifest_of(json.dump())); }), HasSubstr("1001 entries"));
}

TEST(ParseManifest, DocumentNestedWithoutEndIsRefused) {
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  EXPECT_THROW(parse_manifest(manifest_of(R"({"config":)" + deep + "}")), DataError);
}

TEST(ParseIndex, ReadsPlatformsAndAnnotations) {
  Json entry = test::json_of(descriptor_text('a'));
  entry["platform"] = {{"os", "linux"}, {"architecture", "arm64"}, {"variant", "v8"}, {"os.version", "1.2"}};
  entry["annotations"] = {{"vnd.docker.reference.type", "attestation-manifest"}, {"number", 5}};
  const Json index = {{"manifests", {entry, test::json_of(descriptor_text('b'))}}};
  const auto parsed = parse_index(manifest_of(index.dump()));
  ASSERT_EQ(parsed.manifests.size(), 2u);
  EXPECT_EQ(parsed.manifests[0].platform->text(), "linux/arm64/v8");
  EXPECT_EQ(parsed.manifests[0].platform->os_version, "1.2");
  EXPECT_TRUE(is_attestation(parsed.manifests[0]));
  EXPECT_FALSE(is_attestation(parsed.manifests[1]));
  EXPECT_FALSE(parsed.manifests[1].platform);
}

TEST(ParseConfig, WantsLayersAndDigests) {
  const auto parse = [](const std::string& text) { return parse_config(text, digest_of('0')); };
  const std::string diff_id = digest_of('d').text();
  const auto config = parse(fmt::format(
      R"({{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}})", diff_id));
  EXPECT_EQ(config.diff_ids, std::vector{digest_of('d')});
  EXPECT_EQ(config.platform.text(), "linux/amd64");
  for (const std::string rootfs :
       {R"({"diff_ids":[]})", R"({"type":"other","diff_ids":[]})", R"({"type":"layers"})",
        R"({"type":"layers","diff_ids":[5]})", R"({"type":"layers","diff_ids":["x"]})", "5", "null"}) {
    EXPECT_THROW(parse(R"({"rootfs":)" + rootfs + "}"), DataError) << rootfs;
  }
  EXPECT_THROW(parse("{}"), DataError);
}

TEST(ManifestKind, UnknownMediaTypesAreRefused) {
  EXPECT_EQ(manifest_kind(std::string(registry::media_type::kDockerIndex)), ManifestKind::kIndex);
  EXPECT_EQ(manifest_kind(std::string(registry::media_type::kDockerManifest)), ManifestKind::kImage);
  EXPECT_THROW(manifest_kind("application/json"), DataError);
  EXPECT_THROW(manifest_kind(""), DataError);
}

std::string with_urls(std::string_view media_type, const Json& urls) {
  Json manifest = {{"config", test::json_of(descriptor_text('a'))},
                   {"layers", {test::json_of(descriptor_text('b'))}}};
  manifest["layers"][0]["mediaType"] = media_type;
  manifest["layers"][0]["urls"] = urls;
  return manifest.dump();
}

TEST(Urls, OfForeignLayersAreReadAndChecked) {
  for (const std::string_view type :
       {registry::media_type::kDockerForeignLayer, registry::media_type::kDockerForeignLayerGzip,
        registry::media_type::kOciForeignLayer, registry::media_type::kOciForeignLayerGzip,
        registry::media_type::kOciForeignLayerZstd}) {
    const Json urls = {"https://a.example/x?y", "ftp://later"};
    const Descriptor layer = parse_manifest(manifest_of(with_urls(type, urls))).layers.at(0);
    EXPECT_TRUE(is_foreign_layer(layer));
    EXPECT_EQ(layer.urls, (std::vector<std::string>{"https://a.example/x?y", "ftp://later"}));
    EXPECT_TRUE(parse_manifest(manifest_of(with_urls(type, nullptr))).layers.at(0).urls.empty());
  }
  for (const Json& bad :
       {Json("http://a"), Json::array({7}), Json::array({""}), Json::array({"http://a/ b"}),
        Json::array({"http://a/\x1b[31m"}), Json::array({"http://a/\u0080"}),
        Json::array({"http://" + std::string(4096, 'a')}), Json(std::vector<std::string>(17, "http://a"))}) {
    const std::string text = with_urls(registry::media_type::kDockerForeignLayerGzip, bad);
    EXPECT_THAT(data_error([&] { parse_manifest(manifest_of(text)); }), HasSubstr("'urls'")) << bad;
  }
}

TEST(Urls, OfOtherLayersAreLeftAlone) {
  const Descriptor layer =
      parse_manifest(manifest_of(with_urls(registry::media_type::kOciLayer, {7}))).layers.at(0);
  EXPECT_FALSE(is_foreign_layer(layer));
  EXPECT_TRUE(layer.urls.empty());
}

TEST(LayerTypes, EncryptedLayersAndOtherThingsAreRefused) {
  EXPECT_NO_THROW(require_layer_type(std::string(registry::media_type::kDockerForeignLayerGzip)));
  EXPECT_NO_THROW(require_layer_type(std::string(registry::media_type::kOciLayerZstd)));
  EXPECT_THROW(require_layer_type("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), DataError);
  EXPECT_THROW(require_layer_type("application/vnd.in-toto+json"), DataError);
}

TEST(ChainIds, AreTheSpecificationsHashes) {
  EXPECT_TRUE(chain_ids({}).empty());
  const auto chain = chain_ids({digest_of('1'), digest_of('2'), digest_of('3')});
  ASSERT_EQ(chain.size(), 3u);
  EXPECT_EQ(chain[0], digest_of('1'));
  EXPECT_EQ(chain[1].hex(), "9932074217c35353d2e03a3f5a86549f7c67bfeb0ba53e23d69f4d4c8f7958f5");
  EXPECT_EQ(chain[2].hex(), "50127c0d6b338be78246434b4bce23ecf75e505158ea0bbd15effeb162fbf3ec");
}

TEST(RewriteConfig, ChangesDiffIdsAndNothingElse) {
  const std::string config =
      R"({"zeta":1,"rootfs":{"unknown":true,"type":"layers","diff_ids":["x","y"],"more":[]},)"
      R"("alpha":{"b":null,"a":[1,{"z":1,"y":2}]},"history":[{"created_by":"<&>\u2028"}],"big":18446744073709551615,)"
      R"("negative":-9223372036854775808,"float":0.1,"exact":1234567890.123456,"empty":""})";
  std::string expected = config;
  const std::string old = R"("x","y")";
  expected.replace(expected.find(old), old.size(),
                   fmt::format(R"("{}","{}")", digest_of('a').text(), digest_of('b').text()));
  const std::string rewritten = rewrite_config(config, {digest_of('a'), digest_of('b')});
  EXPECT_EQ(test::json_of(rewritten), test::json_of(expected));
  const std::string escape = "\\u2028";
  expected.replace(expected.find(escape), escape.size(), "\xE2\x80\xA8");
  EXPECT_EQ(rewritten, expected) << "the order of fields and the text of numbers stay";
}

TEST(RewriteConfig, SeparateBaseLayerGainsAHistoryEntryInFront) {
  const std::string config = R"({"rootfs":{"diff_ids":["x"]},"history":[{"created_by":"first"}]})";
  const Json rewritten = test::json_of(rewrite_config(config, {digest_of('a'), digest_of('b')}));
  EXPECT_EQ(rewritten["rootfs"]["diff_ids"].size(), 2u);
  ASSERT_EQ(rewritten["history"].size(), 2u);
  EXPECT_EQ(rewritten["history"][1]["created_by"], "first");
  EXPECT_FALSE(rewritten["history"][0].contains("empty_layer"));
  const std::string without = R"({"rootfs":{"diff_ids":["x"]}})";
  EXPECT_FALSE(test::json_of(rewrite_config(without, {digest_of('a'), digest_of('b')})).contains("history"));
  EXPECT_EQ(test::json_of(rewrite_config(config, {digest_of('a')}))["history"].size(), 1u);
}

TEST(RewriteManifest, KeepsUnknownFieldsInTheirPlace) {
  const std::string manifest =
      R"({"schemaVersion":2,"first":1,"config":{"old":1},"annotations":{"k":"v"},"layers":[{"old":1}],"last":[2]})";
  const std::string rewritten = rewrite_manifest(manifest, {.types = MediaTypes::kOci}, descriptor('c'),
                                                 {descriptor('d'), descriptor('e')});
  const Json json = test::json_of(rewritten);
  EXPECT_EQ(json["mediaType"], registry::media_type::kOciManifest);
  EXPECT_EQ(json["config"], test::json_of(fmt::format(R"({{"mediaType":"type/c","digest":"{}","size":7}})",
                                                      digest_of('c').text())));
  EXPECT_EQ(json["layers"].size(), 2u);
  EXPECT_EQ(json["annotations"]["k"], "v");
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  EXPECT_THAT(keys, testing::ElementsAre("schemaVersion", "first", "config", "annotations", "layers", "last",
                                         "mediaType"));
}

TEST(RewriteManifest, UsesDockersTypeWhereAsked) {
  const std::string rewritten = rewrite_manifest(R"({"mediaType":"old","layers":[]})",
                                                 {.types = MediaTypes::kDocker}, descriptor('c'), {});
  EXPECT_EQ(test::json_of(rewritten)["mediaType"], registry::media_type::kDockerManifest);
}

TEST(RewriteIndex, KeepsEntriesButTheirContent) {
  const std::string index =
      R"({"manifests":[)"
      R"({"digest":"left out"},)"
      R"({"mediaType":"m","digest":"d","size":1,"platform":{"os":"linux","x":[1]},"data":"AA==",)"
      R"("urls":["u"],"annotations":{"a":"b"},"artifactType":"t"}],"subject":{"s":1}})";
  const Json json =
      test::json_of(rewrite_index(index, {.types = MediaTypes::kOci}, {{1, descriptor('f', 99)}}));
  ASSERT_EQ(json["manifests"].size(), 1u);
  EXPECT_EQ(json["manifests"][0],
            test::json_of(fmt::format(
                R"({{"mediaType":"type/f","digest":"{}","size":99,"platform":{{"os":"linux","x":[1]}},)"
                R"("annotations":{{"a":"b"}},"artifactType":"t"}})",
                digest_of('f').text())));
  EXPECT_EQ(json["subject"]["s"], 1);
}

}  // namespace
}  // namespace obd::convertor
