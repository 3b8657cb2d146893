#include "registry/referrers.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/error.h"
#include "common/json.h"
#include "common/log.h"
#include "common/turns.h"
#include "registry/client.h"
#include "registry/http_error.h"

namespace obd::registry {
namespace {

constexpr int kMaxPages = 100;
constexpr size_t kMaxReferrers = 100'000;
constexpr int kMaxUpdates = 10;

std::string tag_of(const Digest& subject) {
  return fmt::format("sha256-{}", subject.hex());
}

std::map<std::string, std::string> annotations_of(const Json& object) {
  std::map<std::string, std::string> result;
  const auto field = object.find("annotations");
  if (field == object.end() || !field->is_object()) return result;
  for (const auto& [key, value] : field->items()) {
    if (value.is_string()) result[key] = value.get<std::string>();
  }
  return result;
}

uint64_t size_of(const Json& descriptor, const std::string& what) {
  const auto field = descriptor.find("size");
  if (field == descriptor.end() || !field->is_number_unsigned()) {
    throw DataError(fmt::format("{}: a referrer is listed without its size", what));
  }
  return field->get<uint64_t>();
}

Json parse_index(std::string_view bytes, const std::string& what) {
  Json index = parse_json(bytes, what);
  if (!index.is_object() || !index.contains("manifests") || !index["manifests"].is_array()) {
    throw DataError(fmt::format("{}: a list of referrers was expected, but it is no index", what));
  }
  return index;
}

/// Appends the entries of an index, each digest once.
void append_entries(const Json& index, const std::string& what, std::vector<Referrer>& referrers) {
  for (const Json& entry : index["manifests"]) {
    if (!entry.is_object()) throw DataError(fmt::format("{}: a referrer is no descriptor", what));
    Referrer referrer{.manifest = {Digest::parse(text_field(entry, "digest"), what), size_of(entry, what)},
                      .media_type = text_field(entry, "mediaType"),
                      .artifact_type = text_field(entry, "artifactType"),
                      .annotations = annotations_of(entry)};
    const bool listed = std::any_of(referrers.begin(), referrers.end(), [&](const Referrer& other) {
      return other.manifest.digest == referrer.manifest.digest;
    });
    if (listed) continue;
    if (referrers.size() == kMaxReferrers) {
      throw DataError(fmt::format("{}: more than {} referrers", what, kMaxReferrers));
    }
    referrers.push_back(std::move(referrer));
  }
}

Json descriptor_of(const Referrer& referrer) {
  Json descriptor = {{"mediaType", referrer.media_type},
                     {"digest", referrer.manifest.digest.text()},
                     {"size", referrer.manifest.size}};
  if (!referrer.artifact_type.empty()) descriptor["artifactType"] = referrer.artifact_type;
  if (!referrer.annotations.empty()) descriptor["annotations"] = referrer.annotations;
  return descriptor;
}

/// Threads of this process take turns at one tag: the others' writes would only make them write again.
Turns& turns_at_tags() {
  static Turns instance;
  return instance;
}

}  // namespace

std::optional<Referral> find_referral(std::string_view bytes, const std::string& media_type) {
  if (bytes.find("\"subject\"") == std::string_view::npos) return std::nullopt;
  Digest digest = Digest::of(bytes);
  const std::string what = fmt::format("manifest {}", digest.text());
  const Json manifest = parse_json(bytes, what);
  const auto subject = manifest.is_object() ? manifest.find("subject") : manifest.end();
  if (subject == manifest.end() || subject->is_null()) return std::nullopt;
  if (!subject->is_object()) throw DataError(fmt::format("{}: its subject is no descriptor", what));
  std::string type = text_field(manifest, "artifactType");
  const auto config = manifest.find("config");
  if (type.empty() && config != manifest.end()) type = text_field(*config, "mediaType");
  return Referral{.subject = Digest::parse(text_field(*subject, "digest"), what),
                  .referrer = {.manifest = {std::move(digest), bytes.size()},
                               .media_type = media_type,
                               .artifact_type = std::move(type),
                               .annotations = annotations_of(manifest)}};
}

struct ReferrersClient::TaggedIndex {
  Json document = {{"schemaVersion", 2}, {"mediaType", media_type::kOciIndex}, {"manifests", Json::array()}};
  std::optional<std::string> etag = {};
  std::vector<Referrer> referrers = {};

  bool has(const Digest& digest) const {
    return std::any_of(referrers.begin(), referrers.end(),
                       [&](const Referrer& referrer) { return referrer.manifest.digest == digest; });
  }
};

std::vector<Referrer> ReferrersClient::list(const Digest& subject, const std::stop_token& stop) {
  if (auto referrers = list_by_registry(subject, stop)) return *std::move(referrers);
  return pull_index(subject, stop).referrers;
}

std::optional<std::vector<Referrer>> ReferrersClient::list_by_registry(const Digest& subject,
                                                                       const std::stop_token& stop) {
  std::vector<Referrer> referrers;
  std::optional<Url> next = client_.url(fmt::format("referrers/{}", subject.text()), stop);
  for (int pages = 0; next; ++pages) {
    if (pages == kMaxPages) {
      throw DataError(fmt::format("GET {}: more than {} pages of referrers", next->redacted(), kMaxPages));
    }
    Call call{.request = {.method = "GET", .url = *next}};
    if (pages == 0)
      call.answers = {400, 404, 405};  // what older registries say to a path that they do not know
    call.request.headers.push_back({"Accept", std::string(media_type::kOciIndex)});
    call.request.max_body_bytes = kMaxManifestBytes;
    const HttpResponse response = client_.send(call, stop);
    if (!response.ok()) return std::nullopt;
    const std::string what = fmt::format("GET {}", response.url->redacted());
    append_entries(parse_index(response.body, what), what, referrers);
    next = response.next_page();
  }
  return referrers;
}

ReferrersClient::TaggedIndex ReferrersClient::pull_index(const Digest& subject, const std::stop_token& stop) {
  TaggedIndex index;
  Call call{
      .request = {.method = "GET", .url = client_.url(fmt::format("manifests/{}", tag_of(subject)), stop)},
      .answers = {404}};
  call.request.headers.push_back({"Accept", std::string(media_type::kOciIndex)});
  call.request.max_body_bytes = kMaxManifestBytes;
  const HttpResponse response = client_.send(call, stop);
  if (!response.ok()) return index;
  check_manifest_digest(Digest::of(response.body), tag_of(subject), response);
  const std::string what = fmt::format("GET {}", response.url->redacted());
  index.document = parse_index(response.body, what);
  index.etag = response.header("etag");
  append_entries(index.document, what, index.referrers);
  return index;
}

bool ReferrersClient::push_index(const Referral& referral, const TaggedIndex& old,
                                 const std::stop_token& stop) {
  Json document = old.document;
  document["manifests"].push_back(descriptor_of(referral.referrer));
  const std::string bytes = document.dump();
  if (bytes.size() > kMaxManifestBytes) {
    throw CapacityError(fmt::format("{}: the list of what refers to {} would exceed {} bytes",
                                    client_.name().display, referral.subject.text(), kMaxManifestBytes));
  }
  Call call{.request = {.method = "PUT",
                        .url = client_.url(fmt::format("manifests/{}", tag_of(referral.subject)), stop)},
            .access = Access::kPush,
            .answers = {412}};
  call.request.headers.push_back({"Content-Type", std::string(media_type::kOciIndex)});
  if (old.etag) call.request.headers.push_back({"If-Match", *old.etag});
  call.request.body = body_of(bytes);
  return client_.send(call, stop).status != 412;
}

/// One round: true once the entry was found in the list.
bool ReferrersClient::update(const Referral& referral, const std::stop_token& stop) {
  const TaggedIndex index = pull_index(referral.subject, stop);
  if (index.has(referral.referrer.manifest.digest)) return true;
  if (!push_index(referral, index, stop)) return false;
  // Whoever had read the list before we wrote it writes it without our entry. That takes him a moment; that a
  // registry sends an ETag does not mean that it heeds If-Match, so this is never left out.
  const auto settle = client_.retry_policy().settle;
  wait_for(random_delay(settle, 2 * settle), stop);
  return pull_index(referral.subject, stop).has(referral.referrer.manifest.digest);
}

void ReferrersClient::add(const Referral& referral, const std::stop_token& stop) {
  const std::string tag = fmt::format("{} {}", client_.name().display, tag_of(referral.subject));
  const auto turn = turns_at_tags().take(tag, true, stop);
  for (int tries = 0; tries < kMaxUpdates; ++tries) {
    if (update(referral, stop)) return;
    log::debug("referrers of {} changed meanwhile, try={}", referral.subject.brief(), tries + 1);
  }
  throw NetworkError(
      fmt::format("{}: the tag {} was changed by others {} times while {} was added to it; try again",
                  client_.name().display, tag_of(referral.subject), kMaxUpdates,
                  referral.referrer.manifest.digest.text()));
}

}  // namespace obd::registry
