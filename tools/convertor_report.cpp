#include "tools/convertor_report.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <nlohmann/json.hpp>

#include "common/spool.h"
#include "tools/cli.h"

namespace obd::tools {
namespace {

using Json = nlohmann::ordered_json;

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

Json layer_json(const convertor::ConvertedLayer& layer) {
  return {{"source_digest", layer.source_digest.text()},
          {"digest", layer.converted.digest.text()},
          {"size", layer.converted.size},
          {"reused", layer.reused},
          {"lsmt_bytes", layer.uncompressed_bytes},
          {"entries", layer.applied.entries},
          {"file_bytes", layer.applied.file_bytes},
          {"metadata_blocks", layer.applied.metadata_blocks}};
}

Json reuse_json(const convertor::ReuseCounts& counts) {
  return {{"layers", counts.layers},
          {"manifests", counts.manifests},
          {"stale_rows", counts.stale_rows},
          {"failed_lookups", counts.failed_lookups}};
}

std::string contents(const convertor::ConvertedLayer& layer) {
  return layer.reused ? "reused" : fmt::format("{} entries", layer.applied.entries);
}

uint64_t output_bytes(const convertor::ConvertResult& result) {
  uint64_t bytes = 0;
  for (const auto& image : result.images) {
    for (const auto& layer : image.layers) bytes += layer.converted.size;
  }
  return bytes;
}

}  // namespace

void print_json_result(std::ostream& out, const convertor::ConvertResult& result,
                       const std::string& repository, const std::string& tag, bool uploaded) {
  for (const auto& image : result.images) {
    for (const auto& layer : image.layers) {
      Json line = {{"type", "layer"}, {"image", image.source_digest.text()}};
      line.update(layer_json(layer));
      out << line.dump() << '\n';
    }
    const Json line = {{"type", "image"},
                       {"source_digest", image.source_digest.text()},
                       {"platform", image.platform.text()},
                       {"digest", image.manifest.digest.text()},
                       {"media_type", image.manifest.media_type},
                       {"size", image.manifest.size}};
    out << line.dump() << '\n';
  }
  Json summary = {{"type", "summary"},
                  {"repository", repository},
                  {"tag", tag},
                  {"uploaded", uploaded},
                  {"source_digest", result.source_digest.text()},
                  {"digest", result.root.digest.text()},
                  {"media_type", result.root.media_type},
                  {"size", result.root.size},
                  {"images", result.images.size()},
                  {"reuse", reuse_json(result.reuse)},
                  {"layer_bytes", output_bytes(result)}};
  out << summary.dump() << '\n';
}

void print_text_result(std::ostream& out, const convertor::ConvertResult& result,
                       const std::string& repository, const std::string& tag, bool uploaded) {
  for (const auto& image : result.images) {
    if (result.is_index) out << fmt::format("{}\n", image.platform.text());
    for (const auto& layer : image.layers) {
      out << fmt::format("  {} -> {}  {:>10}  {}\n", layer.source_digest.brief(),
                         layer.converted.digest.brief(), human_bytes(layer.converted.size), contents(layer));
    }
  }
  const bool is_registry = registry::place_of(repository) == registry::Place::kRegistry;
  out << fmt::format("{}{}{}@{}{}\n", repository, tag.empty() ? "" : (is_registry ? ":" : " "), tag,
                     result.root.digest.text(), uploaded ? "" : " (not pushed)");
}

void write_metrics(const std::filesystem::path& path, const convertor::ConvertResult& result,
                   const convertor::ProgressBoard& progress, const blockfs::WorkerPool& pool,
                   double wall_seconds) {
  uint64_t fetch = 0;
  uint64_t inflate = 0;
  uint64_t hash = 0;
  uint64_t apply = 0;
  uint64_t publish = 0;
  uint64_t fetched_bytes = 0;
  uint64_t uncompressed_bytes = 0;
  for (const convertor::LayerProgress* layer : progress.layers()) {
    fetch += layer->fetch_cpu;
    inflate += layer->inflate_cpu;
    hash += layer->hash_cpu;
    apply += layer->apply_cpu;
    publish += layer->publish_cpu;
    fetched_bytes += layer->fetched_bytes;
    uncompressed_bytes += layer->applied_bytes;
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto cpu = [](uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e9; };
  Json layers = Json::array();
  for (const auto& image : result.images) {
    for (const auto& layer : image.layers) layers.push_back(layer_json(layer));
  }
  const Json metrics = {{"wall_seconds", wall_seconds},
                        {"user_seconds", seconds(usage.ru_utime)},
                        {"system_seconds", seconds(usage.ru_stime)},
                        {"peak_rss_bytes", static_cast<uint64_t>(usage.ru_maxrss) * 1024},
                        {"source_bytes", fetched_bytes},
                        {"uncompressed_bytes", uncompressed_bytes},
                        {"output_bytes", output_bytes(result)},
                        {"cpu_seconds_by_stage",
                         {{"fetch", cpu(fetch)},
                          {"inflate", cpu(inflate)},
                          {"hash", cpu(hash)},
                          {"apply", cpu(apply)},
                          {"compress", cpu(pool.cpu_nanoseconds())},
                          {"publish", cpu(publish)}}},
                        {"reuse", reuse_json(result.reuse)},
                        {"layers", std::move(layers)}};
  write_file_atomically(path, metrics.dump(2) + "\n");
}

}  // namespace obd::tools
