#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>

#include "common/error.h"
#include "convertor/cache_artifact.h"
#include "registry/foreign_blobs.h"
#include "tools/obdctl.h"
#include "tools/obdctl_blob.h"
#include "tools/obdctl_images.h"
#include "tools/obdctl_operands.h"

namespace obd::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kExamples =
    "  obdctl inspect -r oci:/srv/images -i 1.4_obd\n"
    "  obdctl inspect --referrers -r localhost:5000/acme/app -i 1.4\n"
    "  obdctl inspect --json layer1.obd layer2.obd\n";

struct Totals {
  size_t layers = 0;
  uint64_t blob_bytes = 0;
  uint64_t lsmt_bytes = 0;

  void add(const BlobFacts& facts) {
    ++layers;
    blob_bytes += facts.blob_bytes;
    lsmt_bytes += facts.lsmt_bytes;
  }
};

class Inspector {
 public:
  Inspector(Run& run, bool with_referrers) : run_(run), out_(run.io.out), with_referrers_(with_referrers) {}

  void inspect_files(const std::vector<std::filesystem::path>& files) {
    for (const auto& file : files) {
      auto source = std::make_shared<FileSource>(file);
      const BlobFacts facts = collect_facts(blockfs::open_layer_blob(source), source->size());
      print("layer", printable(file.string()), facts, Json{{"file", printable(file.string())}}, "  ");
    }
    summarise();
  }

  void inspect(registry::Repository& repository, const std::string& reference) {
    const registry::Manifest document = repository.pull_manifest(reference, run_.stop());
    if (convertor::is_cache(document)) {
      inspect_cache(document, convertor::pull_cache(repository, document, run_.stop()));
      if (with_referrers_) inspect_referrers(repository, document.digest);
    } else {
      inspect_image(repository, reference);
    }
  }

 private:
  void inspect_cache(const registry::Manifest& document, const convertor::CacheRecords& records) {
    const auto layers = static_cast<size_t>(
        std::count_if(records.begin(), records.end(),
                      [](const convertor::CacheRecord& record) { return record.media_type.empty(); }));
    const size_t manifests = records.size() - layers;
    if (run_.json) {
      return print_json({{"type", "summary"},
                         {"cache", document.digest.text()},
                         {"layer_records", layers},
                         {"manifest_records", manifests}});
    }
    out_ << fmt::format("cache {}\n  {} layers and {} manifests are remembered\n", document.digest.text(),
                        layers, manifests);
  }

  void inspect_image(registry::Repository& repository, const std::string& reference) {
    const LoadedTree tree = load_images(repository, reference, run_.stop());
    for (const registry::Manifest& index : tree.indexes) {
      if (run_.json) {
        print_json({{"type", "index"}, {"digest", index.digest.text()}, {"media_type", index.media_type}});
      } else {
        out_ << fmt::format("index {}\n  {}\n", index.digest.text(), index.media_type);
      }
    }
    if (tree.attestations != 0 && !run_.json) out_ << fmt::format("  {} attestations\n", tree.attestations);
    for (const LoadedImage& image : tree.images) inspect_one(repository, image);
    if (with_referrers_) {
      for (const registry::Manifest& index : tree.indexes) inspect_referrers(repository, index.digest);
      std::set<Digest> asked;  // an index may name an image twice
      for (const LoadedImage& image : tree.images) {
        if (asked.insert(image.document.digest).second) inspect_referrers(repository, image.document.digest);
      }
    }
    summarise();
  }

  void inspect_referrers(registry::Repository& repository, const Digest& subject) {
    const auto referrers = repository.list_referrers(subject, run_.stop());
    if (!run_.json) out_ << fmt::format("{} referrers of {}\n", referrers.size(), subject.text());
    for (const registry::Referrer& referrer : referrers) {
      if (run_.json) {
        print_json({{"type", "referrer"},
                    {"subject", subject.text()},
                    {"digest", referrer.manifest.digest.text()},
                    {"media_type", printable(referrer.media_type)},
                    {"artifact_type", printable(referrer.artifact_type)},
                    {"size", referrer.manifest.size}});
      } else {
        const std::string type =
            referrer.artifact_type.empty() ? "no type" : printable(referrer.artifact_type);
        out_ << fmt::format("  {}\n    {}, {}, {} bytes\n", referrer.manifest.digest.text(), type,
                            printable(referrer.media_type), referrer.manifest.size);
      }
    }
  }

  void inspect_one(registry::Repository& repository, const LoadedImage& image) {
    if (run_.json) {
      print_json({{"type", "image"},
                  {"digest", image.document.digest.text()},
                  {"media_type", image.document.media_type},
                  {"platform", printable(image.platform.text())},
                  {"config", image.manifest.config.digest.text()},
                  {"layers", image.manifest.layers.size()}});
    } else {
      out_ << fmt::format("image {} {}\n  {}\n  config {}\n", image.label(), image.document.digest.text(),
                          image.document.media_type, image.manifest.config.digest.text());
    }
    for (size_t i = 0; i < image.manifest.layers.size(); ++i) {
      inspect_layer(repository, image.manifest.layers[i], i);
    }
  }

  void inspect_layer(registry::Repository& repository, const convertor::Descriptor& layer, size_t number) {
    const Json identity = {
        {"number", number}, {"digest", layer.digest.text()}, {"media_type", layer.media_type}};
    const std::string title = fmt::format("  layer {} {}", number, layer.digest.text());
    // It need not be there, and is no overlaybd layer.
    if (convertor::is_foreign_layer(layer)) return print_ordinary(layer, identity, title);
    const bool annotated = layer.annotations.contains(convertor::annotation::kBlobDigest);
    try {
      const auto blob = blockfs::open_layer_blob(repository.open_blob(layer.blob()));
      print("layer", title, collect_facts(blob, layer.size), identity, "    ");
    } catch (const DataError& error) {
      // An ordinary image is a fair thing to look at; a layer that claims to be overlaybd must be one.
      if (annotated && layer.media_type.ends_with(".tar")) throw;
      print_ordinary(layer, identity, title);
    }
  }

  void print_ordinary(const convertor::Descriptor& layer, Json identity, const std::string& title) {
    const std::string hosts = registry::hosts_of(layer.urls);
    if (run_.json) {
      identity["type"] = "foreign_layer";
      identity["blob_bytes"] = layer.size;
      if (!hosts.empty()) identity["hosts"] = hosts;
      return print_json(identity);
    }
    out_ << fmt::format("{}\n    {}, {} bytes ({}): not an overlaybd layer{}\n", title,
                        printable(layer.media_type), layer.size, human_bytes(layer.size),
                        hosts.empty() ? "" : "; to be had from " + hosts);
  }

  void print(const char* type, const std::string& title, const BlobFacts& facts, const Json& identity,
             const std::string& indent) {
    totals_.add(facts);
    if (!run_.json) {
      out_ << title << '\n' << facts.text(indent);
      return;
    }
    Json object = {{"type", type}};
    object.update(identity);
    object.update(facts.json());
    print_json(object);
  }

  void print_json(const Json& object) { out_ << object.dump() << '\n'; }

  void summarise() {
    if (run_.json) {
      print_json({{"type", "summary"},
                  {"layers", totals_.layers},
                  {"blob_bytes", totals_.blob_bytes},
                  {"lsmt_bytes", totals_.lsmt_bytes}});
    } else {
      out_ << fmt::format("{} overlaybd layers, {} compressed, {} uncompressed\n", totals_.layers,
                          human_bytes(totals_.blob_bytes), human_bytes(totals_.lsmt_bytes));
    }
  }

  Run& run_;
  std::ostream& out_;
  const bool with_referrers_;
  Totals totals_;
};

}  // namespace

ExitCode obdctl_inspect(const std::vector<std::string>& args, Run& run) {
  cxxopts::Options options("obdctl inspect", "Says what an overlaybd image, or a layer blob, consists of.\n");
  add_operand_options(options, "Layer blobs");
  options.add_options("Image")(
      "referrers", "Also what names the image as its subject: an image converted from it, a signature");
  const auto parsed = parse_verb(options, args, kExamples, run);
  if (!parsed) return ExitCode::kSuccess;
  const bool with_referrers = parsed->count("referrers") > 0;
  const Operands operands = parse_operands(*parsed, run.io.in);
  if (with_referrers && !operands.repository) {
    throw UsageError("--referrers asks a repository: files have none");
  }
  Inspector inspector(run, with_referrers);
  if (operands.repository) {
    inspector.inspect(*operands.repository, operands.reference);
  } else {
    inspector.inspect_files(operands.files);
  }
  return ExitCode::kSuccess;
}

}  // namespace obd::tools
