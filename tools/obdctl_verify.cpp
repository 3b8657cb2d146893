#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <ostream>
#include <set>

#include "blockfs/layer_stack.h"
#include "common/error.h"
#include "tools/obdctl.h"
#include "tools/obdctl_blob.h"
#include "tools/obdctl_images.h"
#include "tools/obdctl_operands.h"

namespace obd::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kExamples =
    "  obdctl verify -r localhost:5000/acme/app -i 1.4_obd --plain\n"
    "  obdctl verify layer1.obd layer2.obd     (bottom first: they must fit on one another)\n";

std::string annotation_of(const convertor::Descriptor& layer, const char* key) {
  const auto found = layer.annotations.find(key);
  return found == layer.annotations.end() ? std::string() : found->second;
}

/// What the image's documents say of a layer: they must agree with one another and with the blob.
void verify_descriptor(const LoadedImage& image, size_t number) {
  const convertor::Descriptor& layer = image.manifest.layers[number];
  const auto fail = [&](const std::string& what) { throw DataError(what); };
  if (annotation_of(layer, convertor::annotation::kVersion).empty()) {
    fail(fmt::format("not an overlaybd layer: it has no annotation {}", convertor::annotation::kVersion));
  }
  if (image.config.diff_ids[number] != layer.digest) {
    fail(fmt::format("its diff ID is {}, not the digest of the blob", image.config.diff_ids[number].text()));
  }
  const std::string digest = annotation_of(layer, convertor::annotation::kBlobDigest);
  const std::string size = annotation_of(layer, convertor::annotation::kBlobSize);
  if (digest != layer.digest.text())
    fail(fmt::format("the annotation blob-digest says '{}'", printable(digest)));
  if (size != fmt::format("{}", layer.size))
    fail(fmt::format("the annotation blob-size says '{}'", printable(size)));
}

class Verifier {
 public:
  explicit Verifier(Run& run) : run_(run), out_(run.io.out) {}

  void verify_files(const std::vector<std::filesystem::path>& files) {
    blockfs::LayerStack stack;
    for (const auto& file : files) {
      const auto source = std::make_shared<FileSource>(file);
      const auto blob = blockfs::open_layer_blob(source);
      verify_blob_content(blob, source, run_.stop());
      stack.push(blob.layer);
      report(printable(file.string()), collect_facts(blob, source->size()));
    }
    summarise(0);
  }

  void verify_image(registry::Repository& repository, const std::string& reference) {
    LoadedTree tree = load_images(repository, reference, run_.stop());
    const size_t all = tree.images.size();
    prefer(tree, ImageKind::kOverlaybd);
    if (!run_.json && tree.images.size() != all) {
      out_ << fmt::format("{} other images of the index are left out\n", all - tree.images.size());
    }
    for (const LoadedImage& image : tree.images) {
      if (!run_.json) out_ << fmt::format("image {} {}\n", image.label(), image.document.digest.text());
      verify_one(repository, image);
    }
    summarise(tree.images.size());
  }

 private:
  void verify_one(registry::Repository& repository, const LoadedImage& image) {
    const size_t layers = image.manifest.layers.size();
    if (image.config.diff_ids.size() != layers) {
      throw DataError(fmt::format("image {}: {} layers, but {} diff IDs", image.label(), layers,
                                  image.config.diff_ids.size()));
    }
    blockfs::LayerStack stack;
    for (size_t i = 0; i < layers; ++i) {
      const convertor::Descriptor& layer = image.manifest.layers[i];
      try {
        verify_descriptor(image, i);
        verify_layer(repository, layer, stack, i);
      } catch (Error& error) {
        error.add_context(fmt::format("image {}: layer {} ({})", image.label(), i, layer.digest.text()));
        throw;
      }
    }
  }

  void verify_layer(registry::Repository& repository, const convertor::Descriptor& layer,
                    blockfs::LayerStack& stack, size_t number) {
    const auto source = fetch_blob(repository, layer.blob(), run_.stop());
    const auto blob = blockfs::open_layer_blob(source);
    stack.push(blob.layer);
    // Platforms of an index share layers; reading one once is enough.
    if (verified_.contains(layer.digest)) return;
    if (is_local(repository)) {
      const Digest found = digest_of(*source, run_.stop());
      if (found != layer.digest) throw DataError(fmt::format("the blob has the digest {}", found.text()));
    }
    verify_blob_content(blob, source, run_.stop());
    verified_.insert(layer.digest);
    report(fmt::format("layer {} {}", number, layer.digest.text()), collect_facts(blob, layer.size));
  }

  void report(const std::string& what, const BlobFacts& facts) {
    ++blobs_;
    bytes_ += facts.lsmt_bytes;
    if (run_.json) {
      Json object = {{"type", "verified"}, {"what", what}};
      object.update(facts.json());
      out_ << object.dump() << '\n';
      return;
    }
    const uint64_t block = facts.compression ? facts.compression->block_bytes : 0;
    out_ << fmt::format("  {}: {}{} segments, uuid {}\n", what,
                        block == 0 ? "" : fmt::format("{} blocks, ", (facts.lsmt_bytes + block - 1) / block),
                        facts.segments, facts.uuid.empty() ? "none" : facts.uuid);
  }

  void summarise(size_t images) {
    if (run_.json) {
      const Json summary = {
          {"type", "summary"}, {"images", images}, {"blobs", blobs_}, {"lsmt_bytes", bytes_}};
      out_ << summary.dump() << '\n';
      return;
    }
    out_ << fmt::format(
        "ok: {}{} blobs, {} uncompressed: {}headers, trailers, indexes, block CRCs and UUID chain\n",
        images == 0 ? "" : fmt::format("{} images, ", images), blobs_, human_bytes(bytes_),
        images == 0 ? "" : "digests, diff IDs, annotations, ");
  }

  Run& run_;
  std::ostream& out_;
  std::set<Digest> verified_;
  size_t blobs_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace

ExitCode obdctl_verify(const std::vector<std::string>& args, Run& run) {
  cxxopts::Options options(
      "obdctl verify",
      "Reads all of an overlaybd image, or of layer blobs (bottom first), and checks every\n"
      "digest, header, index, block and the chain of UUIDs. Stops at the first error.\n");
  add_operand_options(options, "Layer blobs, bottom first");
  const auto parsed = parse_verb(options, args, kExamples, run);
  if (!parsed) return ExitCode::kSuccess;
  const Operands operands = parse_operands(*parsed, run.io.in);
  Verifier verifier(run);
  if (operands.repository) {
    verifier.verify_image(*operands.repository, operands.reference);
  } else {
    verifier.verify_files(operands.files);
  }
  return ExitCode::kSuccess;
}

}  // namespace obd::tools
