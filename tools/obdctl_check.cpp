#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "blockfs/layer_blob.h"
#include "common/bounded_queue.h"
#include "common/error.h"
#include "common/stage_group.h"
#include "convertor/source_image.h"
#include "tools/check_compare.h"
#include "tools/obdctl.h"
#include "tools/obdctl_images.h"
#include "tools/obdctl_operands.h"
#include "tools/registry_options.h"

namespace obd::tools {
namespace {

constexpr const char* kExamples =
    "  obdctl check -r localhost:5000/acme/app -i 1.4 -o 1.4_obd --plain\n"
    "  obdctl check --source oci:/srv/images -i 1.4 -r localhost:5000/acme/app -o 1.4_obd\n"
    "  obdctl check -r localhost:5000/acme/app -i 1.4 -o 1.4_obd --platform linux/amd64\n"
    "  obdctl check --source-layer base.tar.gz --source-layer app.tar base.obd app.obd\n";

constexpr uint64_t kQueueBytes = 4 << 20;
constexpr size_t kPieceBytes = 256 << 10;

using Files = std::vector<std::string>;
using Platforms = std::vector<convertor::Platform>;
using Blobs = std::vector<std::shared_ptr<const ByteSource>>;

/// Where one side comes from: an image in a repository, or files.
struct Side {
  std::unique_ptr<registry::Repository> repository;  // null: files
  std::string reference;
  Files files;
  std::unique_ptr<registry::ForeignBlobs> foreign = nullptr;  // of the source, where they are allowed

  convertor::SourcePlace place() const { return {*repository, foreign.get()}; }
};

std::string text_of(const cxxopts::ParseResult& parsed, const std::string& option) {
  return parsed.count(option) != 0 ? parsed[option].as<std::string>() : std::string();
}

Files list_of(const cxxopts::ParseResult& parsed, const std::string& option) {
  return parsed.count(option) != 0 ? parsed[option].as<Files>() : Files();
}

Side parse_side(const registry::RepositoryOptions& options, Files files, std::string where,
                std::string reference, const char* what, const char* wanted) {
  if (!files.empty() && !reference.empty()) {
    throw UsageError(fmt::format("the {} is given twice: as an image and as files", what));
  }
  if (!files.empty()) return {nullptr, {}, std::move(files)};
  if (where.empty() || reference.empty())
    throw UsageError(fmt::format("the {} is missing: give {}", what, wanted));
  return {registry::open_repository(where, options), std::move(reference), {}};
}

Platforms parse_platforms(const cxxopts::ParseResult& parsed, const Side& source, const Side& converted) {
  Platforms platforms;
  for (const std::string& platform : list_of(parsed, "platform")) {
    platforms.push_back(convertor::Platform::parse(platform));
  }
  if (!platforms.empty() && !source.repository && !converted.repository) {
    throw UsageError("--platform chooses among the images of a repository: files say nothing of a platform");
  }
  return platforms;
}

/// How to reach the repositories of both sides.
struct Registries {
  registry::RepositoryOptions source;
  registry::RepositoryOptions converted;
};

/// -u was given for -r: the host of --source gets it only if it is the same, or if -r names no registry.
Registries read_registries(const cxxopts::ParseResult& parsed, std::istream& in) {
  check_password_stdin(parsed);
  warn_of_passwords(parsed);
  const auto common = with_temporary_files(read_registry_options(parsed, RegistrySide::kCommon, in));
  const auto source = read_registry_options(parsed, RegistrySide::kSource, in);
  const std::string host = registry::registry_host(text_of(parsed, "repository"));
  const std::string other = text_of(parsed, "source");
  const bool for_source = other.empty() || host.empty() || host == registry::registry_host(other);
  return {merge_registry_options(common, source, for_source), common};
}

Side parse_source(const cxxopts::ParseResult& parsed, const registry::RepositoryOptions& options) {
  const std::string tag = text_of(parsed, "input-tag");
  const std::string digest = text_of(parsed, "input-digest");
  if (!tag.empty() && !digest.empty()) throw UsageError("--input-tag and --input-digest exclude one another");
  if (!digest.empty() && !Digest::is_valid(digest)) {
    throw UsageError("--input-digest has the form sha256:<64 hex digits>");
  }
  const std::string other = text_of(parsed, "source");
  Side side = parse_side(options, list_of(parsed, "source-layer"),
                         other.empty() ? text_of(parsed, "repository") : other, tag.empty() ? digest : tag,
                         "source image", "--repository and --input-tag or --input-digest, or --source-layer");
  side.foreign = open_foreign_blobs(parsed, options);
  return side;
}

Side parse_converted(const cxxopts::ParseResult& parsed, const registry::RepositoryOptions& options) {
  return parse_side(options, list_of(parsed, "files"), text_of(parsed, "repository"),
                    text_of(parsed, "output-tag"), "converted image",
                    "--repository and --output-tag, or layer blobs");
}

/// Pulls in a thread of its own; all of the blob is verified once this returns.
std::vector<LayerMember> read_remote_layer(const convertor::SourcePlace& place,
                                           const convertor::Descriptor& layer, const std::string& name,
                                           const std::stop_token& stop) {
  BoundedQueue<std::vector<std::byte>> queue(kQueueBytes);
  StageGroup group(stop);
  group.start("fetch", [&](std::stop_token token) {
    const auto push = [&](std::span<const std::byte> piece) {
      queue.push(std::vector<std::byte>(piece.begin(), piece.end()), piece.size(), token);
    };
    convertor::pull_layer(place, layer, push, token);
    queue.close();
  });
  std::vector<LayerMember> members;
  try {
    std::vector<std::byte> piece;
    const LayerInput input = [&]() -> std::span<const std::byte> {
      auto next = queue.pop(group.token());
      piece = next ? std::move(*next) : std::vector<std::byte>();
      return piece;
    };
    members = read_layer(name, input, group.token());
  } catch (...) {
    group.fail(std::current_exception());
  }
  group.join();
  return members;
}

std::vector<LayerMember> read_layer_file(const std::string& file, const std::stop_token& stop) {
  const FileSource source(file);
  std::vector<std::byte> piece(kPieceBytes);
  uint64_t offset = 0;
  const LayerInput input = [&]() -> std::span<const std::byte> {
    const std::span next(piece.data(), std::min<uint64_t>(piece.size(), source.size() - offset));
    source.read_at(offset, next);
    offset += next.size();
    return next;
  };
  return read_layer(printable(file), input, stop);
}

/// The same platform or, where one side leaves the variant out, one that it may stand for.
std::vector<LoadedImage>::iterator find_counterpart(std::vector<LoadedImage>& images,
                                                    const convertor::Platform& platform) {
  const auto same = std::find_if(images.begin(), images.end(), [&](const LoadedImage& candidate) {
    return candidate.platform.text() == platform.text();
  });
  if (same != images.end()) return same;
  return std::find_if(images.begin(), images.end(), [&](const LoadedImage& candidate) {
    return candidate.platform.matches(platform) || platform.matches(candidate.platform);
  });
}

class Checker {
 public:
  Checker(Run& run, Platforms platforms, uint64_t max_differences)
      : run_(run), out_(run.io.out), platforms_(std::move(platforms)), max_differences_(max_differences) {}

  ExitCode run(const Side& source, const Side& converted) {
    if (source.repository && converted.repository) {
      check_images(source, converted);
    } else {
      check_pair("", single_source(source), single_converted(converted));
    }
    summarise();
    return totals_.differences == 0 ? ExitCode::kSuccess : ExitCode::kMismatch;
  }

 private:
  using Apply = std::function<void(ExpectedTree&)>;

  void check_images(const Side& source, const Side& converted) {
    LoadedTree from = load(source, ImageKind::kSource);
    LoadedTree to = load(converted, ImageKind::kOverlaybd);
    const bool single = from.indexes.empty() && to.indexes.empty();
    for (const LoadedImage& image : from.images) {
      const auto other = single ? to.images.begin() : find_counterpart(to.images, image.platform);
      if (other == to.images.end()) {
        report({"", "image", image.label(), ""}, "");
        ++totals_.differences;
        ++unmatched_;
        continue;
      }
      check_pair(single ? "" : image.label(), source_of(source.place(), image),
                 blobs_of(*converted.repository, *other));
      to.images.erase(other);
    }
    for (const LoadedImage& left : to.images) {
      report({"", "image", "", left.label()}, "");
      ++totals_.differences;
    }
  }

  /// The images to look at. A platform that the source lacks is a usage error, one that only the converted
  /// image lacks a difference.
  LoadedTree load(const Side& side, ImageKind kind) {
    LoadedTree tree = load_images(*side.repository, side.reference, run_.stop());
    prefer(tree, kind);
    if (platforms_.empty()) return tree;
    const std::string known = labels_of(tree);
    const Platforms missing = keep_platforms(tree, platforms_);
    if (kind == ImageKind::kSource && !missing.empty()) {
      throw UsageError(fmt::format("the source has no image for the platform {}; it has {}",
                                   missing.front().text(), known));
    }
    return tree;
  }

  Apply source_of(const convertor::SourcePlace& place, const LoadedImage& image) {
    return [this, place, &image](ExpectedTree& tree) {
      for (size_t i = 0; i < image.manifest.layers.size(); ++i) {
        const convertor::Descriptor& layer = image.manifest.layers[i];
        const std::string name = fmt::format("source layer {} ({})", i, layer.digest.text());
        apply(tree, name, read_remote_layer(place, layer, name, run_.stop()));
      }
    };
  }

  Apply single_source(const Side& side) {
    if (!side.repository) {
      return [this, &side](ExpectedTree& tree) {
        for (const std::string& file : side.files)
          apply(tree, printable(file), read_layer_file(file, run_.stop()));
      };
    }
    return [this, &side](ExpectedTree& tree) {
      source_of(side.place(), only_image(load(side, ImageKind::kSource)))(tree);
    };
  }

  static void apply(ExpectedTree& tree, const std::string& name, std::vector<LayerMember> members) {
    try {
      tree.apply(std::move(members));
    } catch (Error& error) {
      error.add_context(name);
      throw;
    }
  }

  Blobs blobs_of(registry::Repository& repository, const LoadedImage& image) {
    Blobs blobs;
    for (const auto& layer : image.manifest.layers)
      blobs.push_back(fetch_blob(repository, layer.blob(), run_.stop()));
    return blobs;
  }

  Blobs single_converted(const Side& side) {
    if (side.repository) {
      return blobs_of(*side.repository, only_image(load(side, ImageKind::kOverlaybd)));
    }
    Blobs blobs;
    for (const std::string& file : side.files) blobs.push_back(std::make_shared<FileSource>(file));
    return blobs;
  }

  static LoadedImage only_image(LoadedTree tree) {
    if (tree.images.size() != 1) {
      throw UsageError(fmt::format(
          "the reference leads to {} images, the files make one: choose one of an index with --platform",
          tree.images.size()));
    }
    return std::move(tree.images.front());
  }

  void check_pair(const std::string& label, const Apply& build, const Blobs& blobs) {
    ExpectedTree tree;
    build(tree);
    auto stack = std::make_shared<blockfs::LayerStack>();
    for (const auto& blob : blobs) stack->push(blockfs::open_layer_blob(blob).layer);
    Ext4Reader converted(stack);
    const ComparisonTotals totals = compare_trees(
        tree, converted, [&](const Difference& difference) { report(difference, label); }, run_.stop());
    ++images_;
    totals_.paths += totals.paths;
    totals_.content_bytes += totals.content_bytes;
    totals_.differences += totals.differences;
  }

  void report(const Difference& difference, const std::string& label) {
    if (shown_ == max_differences_) return;
    ++shown_;
    if (run_.json) {
      const nlohmann::ordered_json object = {
          {"type", "difference"},        {"image", label},
          {"path", difference.path},     {"property", difference.property},
          {"source", difference.source}, {"converted", difference.converted}};
      out_ << object.dump() << '\n';
      return;
    }
    const auto shown = [](const std::string& value) { return value.empty() ? "nothing" : value; };
    out_ << fmt::format("{}{}{}{}: {} in the source, {} in the converted image\n", label,
                        label.empty() ? "" : ": ", difference.path.empty() ? "" : difference.path + ": ",
                        difference.property, shown(difference.source), shown(difference.converted));
  }

  void summarise() {
    if (run_.json) {
      const nlohmann::ordered_json summary = {{"type", "summary"},
                                              {"images", images_},
                                              {"paths", totals_.paths},
                                              {"content_bytes", totals_.content_bytes},
                                              {"differences", totals_.differences}};
      out_ << summary.dump() << '\n';
      return;
    }
    const std::string what = fmt::format("{} images, {} paths, {} of content", images_, totals_.paths,
                                         human_bytes(totals_.content_bytes));
    if (totals_.differences == 0) {
      out_ << "equal: " << what << '\n';
    } else {
      out_ << fmt::format("different: {} differences ({} shown) in {}\n", totals_.differences, shown_, what);
    }
    if (unmatched_ > 0) {
      out_ << fmt::format(
          "{} images of the source have no counterpart: where only some were converted, name their platforms "
          "with --platform\n",
          unmatched_);
    }
  }

  Run& run_;
  std::ostream& out_;
  const Platforms platforms_;
  const uint64_t max_differences_;
  uint64_t shown_ = 0;
  size_t unmatched_ = 0;  // images of the source
  size_t images_ = 0;
  ComparisonTotals totals_;
};

cxxopts::Options check_options() {
  cxxopts::Options options(
      "obdctl check",
      "Compares the filesystem of a converted image with that of its source, path by path:\n"
      "type, mode, owner, time, device, link target, hardlinks, xattrs, size and content.\n"
      "Exits with 0 if they are equal and with 9 if not.\n");
  const auto text = [] { return cxxopts::value<std::string>(); };
  const auto list = [] { return cxxopts::value<Files>(); };
  options.add_options("Images")("r,repository", kRepositoryHelp, text(), "REPO")(
      "source", "Repository of the source image, if it is another", text(), "REPO")(
      "i,input-tag", "Tag of the source image", text(), "TAG")("g,input-digest", "Digest of the source image",
                                                               text(), "DIGEST")(
      "o,output-tag", "Tag or digest of the converted image", text(), "TAG")(
      "platform", "Only the images of an index for this platform; repeat it", list(), "OS/ARCH[/VARIANT]");
  add_registry_options(options, "Registry", RegistrySide::kCommon);
  add_registry_options(options, "Source", RegistrySide::kSource);
  options.add_options("Files")("source-layer", "A layer of the source, a tar file; repeat it, bottom first",
                               list(), "FILE")("files", "Layer blobs of the converted image, bottom first",
                                               list(), "FILE...");
  options.add_options("Report")("max-differences", "Print at most so many differences",
                                cxxopts::value<uint64_t>()->default_value("20"), "N");
  options.parse_positional({"files"});
  options.positional_help("[FILE...]");
  return options;
}

}  // namespace

ExitCode obdctl_check(const std::vector<std::string>& args, Run& run) {
  cxxopts::Options options = check_options();
  const auto parsed = parse_verb(options, args, kExamples, run);
  if (!parsed) return ExitCode::kSuccess;
  const Registries registries = read_registries(*parsed, run.io.in);
  const Side source = parse_source(*parsed, registries.source);
  const Side converted = parse_converted(*parsed, registries.converted);
  return Checker(run, parse_platforms(*parsed, source, converted),
                 (*parsed)["max-differences"].as<uint64_t>())
      .run(source, converted);
}

}  // namespace obd::tools
