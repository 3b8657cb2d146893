#include "convertor/image_converter.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <deque>
#include <optional>

#include "blockfs/ext4/capacity.h"
#include "blockfs/ext4/filesystem.h"
#include "blockfs/layer_blob.h"
#include "blockfs/layer_stack.h"
#include "blockfs/tar_wrapper.h"
#include "common/error.h"
#include "convertor/layer_output.h"
#include "convertor/layer_source.h"

namespace obd::convertor {
namespace {

namespace fs = std::filesystem;
namespace media_type = registry::media_type;

/// Layers that are fetched ahead of the one being applied.
constexpr size_t kReadAhead = 2;
/// Layers that are applied but not yet published.
constexpr uint64_t kMaxUnpublished = 4;
/// Of a layer that is converted but not pushed, before it goes to a file.
constexpr uint64_t kUnpushedMemoryBytes = 8 << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

void copy_bytes(const ByteSource& from, ByteSink& to) {
  std::vector<std::byte> buffer(std::min<uint64_t>(from.size(), 1 << 20));
  for (uint64_t offset = 0; offset < from.size();) {
    const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), from.size() - offset));
    from.read_at(offset, part);
    to.append(part);
    offset += part.size();
  }
}

Descriptor layer_descriptor(const Digest& digest, uint64_t size, bool oci) {
  return {.media_type = std::string(oci ? media_type::kOciLayer : media_type::kDockerLayer),
          .digest = digest,
          .size = size,
          .annotations = {{annotation::kVersion, "0.1.0"},
                          {annotation::kBlobDigest, digest.text()},
                          {annotation::kBlobSize, fmt::format("{}", size)}}};
}

/// The filesystem of the layers so far.
struct Disk {
  Disk(blockfs::LayerStack layers, uint64_t budget) : stack(std::move(layers)), store(stack, budget) {}
  blockfs::LayerStack stack;
  blockfs::MetadataStore store;
  std::unique_ptr<blockfs::Filesystem> filesystem;
};

class ImageBuild {
 public:
  ImageBuild(const Workshop& workshop, const registry::Manifest& manifest, uint64_t budget, std::string label,
             std::stop_token stop);

  ConvertedImage run();

 private:
  /// An applied layer on its way to the registry.
  struct Pending {
    std::unique_ptr<LayerOutput> output;
    ConvertedLayer layer;
    LayerProgress* progress;
    size_t number;
  };

  void read_manifest();
  void start_sources(size_t applied);
  void prepare_disk();
  void publish_base();
  std::shared_ptr<Spool> new_spool();
  void apply_all();
  void apply(size_t index);
  [[noreturn]] void advise_size(const blockfs::LayerDoesNotFit& full, size_t next);
  void reopen_disk();
  void publish_layers(std::stop_token stop);
  void publish(Pending& pending, std::stop_token stop);
  Digest publish_spool(const std::shared_ptr<Spool>& spool, size_t number, std::stop_token stop);
  void make_manifest();
  std::string layer_name(size_t index) const;
  fs::path directory() const;

  const Workshop& workshop_;
  const ConvertOptions& options_;
  const registry::Manifest& source_;
  const uint64_t budget_;
  const std::string label_;
  std::stop_token outer_stop_;

  ImageManifest manifest_;
  std::string config_bytes_;
  ImageConfig config_;
  std::vector<Digest> chain_ids_;
  std::vector<LayerProgress*> progress_;

  std::optional<Descriptor> base_;
  std::string base_uuid_;
  std::unique_ptr<Disk> disk_;
  blockfs::ChunkPool chunks_;
  ConvertedImage result_;
  std::vector<std::shared_ptr<Spool>> spools_;  // kept only to reopen the disk from them

  std::mutex mutex_;  // guards published_
  std::condition_variable_any published_changed_;
  size_t published_ = 0;

  BoundedQueue<std::shared_ptr<Pending>> unpublished_{kMaxUnpublished};
  StageGroup stages_;
  std::deque<std::unique_ptr<LayerSource>> sources_;  // the front is the next to be applied
  size_t started_ = 0;
};

ImageBuild::ImageBuild(const Workshop& workshop, const registry::Manifest& manifest, uint64_t budget,
                       std::string label, std::stop_token stop)
    : workshop_(workshop),
      options_(workshop.options),
      source_(manifest),
      budget_(budget),
      label_(std::move(label)),
      outer_stop_(stop),
      stages_(std::move(stop)) {
  result_.source_digest = manifest.digest;
}

std::string ImageBuild::layer_name(size_t index) const {
  return fmt::format("{}layer {} of {} ({})", label_.empty() ? "" : label_ + ", ", index + 1,
                     manifest_.layers.size(), manifest_.layers[index].digest.text().substr(0, 19));
}

fs::path ImageBuild::directory() const {
  return options_.work_directory / std::string(source_.digest.brief());
}

void ImageBuild::read_manifest() {
  manifest_ = parse_manifest(source_);
  config_bytes_ = registry::pull_small_blob(workshop_.source, manifest_.config.blob(), outer_stop_);
  config_ = parse_config(config_bytes_, manifest_.config.digest);
  const std::string what = fmt::format("manifest {}", source_.digest.text());
  if (manifest_.layers.empty()) throw DataError(fmt::format("{}: the image has no layers", what));
  if (manifest_.layers.size() != config_.diff_ids.size()) {
    throw DataError(fmt::format("{}: {} layers, but its config has {} diff IDs", what, manifest_.layers.size(),
                                config_.diff_ids.size()));
  }
  if (manifest_.layers.size() + (options_.mkfs ? 0 : 1) > blockfs::LsmtHeader::kMaxLayers) {
    throw CapacityError(fmt::format("{}: {} layers; overlaybd readers accept {}", what, manifest_.layers.size(),
                                    blockfs::LsmtHeader::kMaxLayers));
  }
  for (const Descriptor& layer : manifest_.layers) require_layer_type(layer.media_type);
  chain_ids_ = chain_ids(config_.diff_ids);
  result_.platform = config_.platform;
  for (size_t i = 0; i < manifest_.layers.size(); ++i) {
    progress_.push_back(&workshop_.progress.add(label_, i + 1, std::string(manifest_.layers[i].digest.brief()),
                                                manifest_.layers[i].size));
  }
}

void ImageBuild::start_sources(size_t applied) {
  while (started_ < manifest_.layers.size() && started_ <= applied + kReadAhead) {
    sources_.push_back(std::make_unique<LayerSource>(workshop_.source, manifest_.layers[started_],
                                                     config_.diff_ids[started_], layer_name(started_), chunks_,
                                                     *progress_[started_], stages_.token()));
    ++started_;
  }
}

void ImageBuild::prepare_disk() {
  if (options_.mkfs) {
    disk_ = std::make_unique<Disk>(blockfs::LayerStack(), budget_);
    disk_->filesystem = blockfs::Filesystem::create(disk_->store, options_.vsize_gib * kGiB);
    return;
  }
  publish_base();
}

/// The base layer is pushed as it is, in a tar wrapper if it has none.
void ImageBuild::publish_base() {
  const auto file = std::make_shared<FileSource>(options_.base_layer);
  const blockfs::LayerBlob blob = blockfs::open_layer_blob(file);
  if (blob.layer->header().virtual_bytes != options_.vsize_gib * kGiB) {
    throw UsageError(fmt::format("the base layer {} holds a disk of {} GiB, but --vsize is {}", file->name(),
                                 blob.layer->header().virtual_bytes / kGiB, options_.vsize_gib));
  }
  base_uuid_ = blob.layer->header().uuid;
  disk_ = std::make_unique<Disk>(blockfs::LayerStack({blob.layer}), budget_);
  disk_->filesystem = blockfs::Filesystem::open(disk_->store);

  const std::shared_ptr<Spool> spool = new_spool();
  if (!blob.in_tar) spool->append(blockfs::encode_tar_wrapper_header(file->size()));
  copy_bytes(*file, *spool);
  if (!blob.in_tar) spool->append(blockfs::encode_tar_wrapper_end(file->size()));
  const Digest digest = publish_spool(spool, 0, outer_stop_);
  base_ = layer_descriptor(digest, spool->size(), options_.oci);
}

std::shared_ptr<Spool> ImageBuild::new_spool() {
  std::shared_ptr<Spool> spool =
      options_.upload ? workshop_.target.new_spool()
                      : std::make_unique<Spool>(Spool::Options{.directory = options_.work_directory,
                                                               .memory_limit = kUnpushedMemoryBytes});
  if (options_.reopen_each_layer) spools_.push_back(spool);
  return spool;
}

void ImageBuild::apply(size_t index) {
  const uint64_t cpu_before = thread_cpu_nanoseconds();
  start_sources(index);
  const auto source = std::move(sources_.front());
  sources_.pop_front();
  LayerProgress& progress = *progress_[index];
  progress.state = LayerProgress::State::kApplying;

  const std::shared_ptr<Spool> spool = new_spool();
  const LayerOutput::Identity identity{
      .virtual_bytes = options_.vsize_gib * kGiB,
      .uuid = blockfs::lsmt_uuid(chain_ids_[index]),
      .parent_uuid = index == 0 ? base_uuid_ : blockfs::lsmt_uuid(chain_ids_[index - 1]),
  };
  auto pending = std::make_shared<Pending>(Pending{
      .output = std::make_unique<LayerOutput>(spool, options_.zfile, identity, workshop_.pool, stages_.token()),
      .layer = {.source_digest = manifest_.layers[index].digest,
                .converted = layer_descriptor(manifest_.layers[index].digest, 0, options_.oci)},
      .progress = &progress,
      .number = index + 1});
  blockfs::LayerTar tar(layer_name(index), *source);
  try {
    pending->layer.applied =
        blockfs::apply_layer(*disk_->filesystem, disk_->store, tar, pending->output->sink());
  } catch (const blockfs::LayerDoesNotFit& full) {
    advise_size(full, index + 1);
  }
  source->verify();
  if (const uint64_t skipped = pending->layer.applied.skipped_xattrs; skipped > 0) {
    spdlog::warn("{}: {} extended attributes left out: ext4 on Linux has no such namespace", layer_name(index), skipped);
  }
  disk_->stack.push(pending->output->finish_index(layer_name(index)));
  pending->layer.uncompressed_bytes = pending->output->uncompressed_bytes();
  progress.state = LayerProgress::State::kPublishing;
  progress.apply_cpu = thread_cpu_nanoseconds() - cpu_before;
  unpublished_.push(std::move(pending), 1, stages_.token());
}

/// The layers above are read for nothing else than to say at once which size holds all of them.
void ImageBuild::advise_size(const blockfs::LayerDoesNotFit& full, size_t next) {
  blockfs::CapacityNeeds needs = full.needs();
  for (; next < manifest_.layers.size(); ++next) {
    start_sources(next);
    const auto source = std::move(sources_.front());
    sources_.pop_front();
    blockfs::LayerTar tar(layer_name(next), *source);
    needs.add(blockfs::count_remaining(tar));
  }
  throw CapacityError(fmt::format("{}; {}", full.what(), blockfs::vsize_advice(options_.vsize_gib, needs)));
}

/// What a later run does that finds these layers: nothing is left in memory but the blobs.
void ImageBuild::reopen_disk() {
  const std::stop_token stop = stages_.token();
  const size_t expected = spools_.size() - (base_ ? 1 : 0);
  {
    std::unique_lock lock(mutex_);
    if (!published_changed_.wait(lock, stop, [&] { return published_ == expected; })) throw Cancelled();
  }
  std::vector<std::shared_ptr<const blockfs::LsmtLayer>> layers;
  for (const auto& spool : spools_) layers.push_back(blockfs::open_layer_blob(spool).layer);
  disk_.reset();
  disk_ = std::make_unique<Disk>(blockfs::LayerStack(layers), budget_);
  disk_->filesystem = blockfs::Filesystem::open(disk_->store);
}

void ImageBuild::apply_all() {
  start_sources(0);
  prepare_disk();
  for (size_t index = 0; index < manifest_.layers.size(); ++index) {
    apply(index);
    if (options_.reopen_each_layer && index + 1 < manifest_.layers.size()) reopen_disk();
  }
  unpublished_.close();
}

Digest ImageBuild::publish_spool(const std::shared_ptr<Spool>& spool, size_t number, std::stop_token stop) {
  const Digest digest = options_.upload ? workshop_.target.push_spool(spool, stop) : spool->digest(stop);
  if (options_.reserve) {
    Spool copy({.directory = directory()});
    copy_bytes(*spool, copy);
    copy.publish_as(directory() / fmt::format("{:04}_{}.overlaybd.commit.tar", number, digest.brief()));
  }
  return digest;
}

void ImageBuild::publish(Pending& pending, std::stop_token stop) {
  const uint64_t cpu_before = thread_cpu_nanoseconds();
  const std::string below = result_.layers.empty() ? (base_ ? base_->digest.text() : "none")
                                                   : result_.layers.back().converted.digest.text();
  pending.output->seal(fmt::format("{} below={}", options_.layer_key(), below));
  const std::shared_ptr<Spool> spool = pending.output->spool();
  pending.progress->stored_bytes = spool->size();
  const Digest digest = publish_spool(spool, pending.number, stop);
  pending.layer.converted = layer_descriptor(digest, spool->size(), options_.oci);
  if (options_.upload) {
    pending.output->release_spool(workshop_.target.open_blob(pending.layer.converted.blob()));
  }
  spdlog::debug("{}: converted digest={} bytes={}", layer_name(pending.number - 1), digest.brief(), spool->size());
  result_.layers.push_back(std::move(pending.layer));
  pending.progress->publish_cpu = thread_cpu_nanoseconds() - cpu_before;
  pending.progress->state = LayerProgress::State::kDone;
  {
    const std::lock_guard lock(mutex_);
    ++published_;
  }
  published_changed_.notify_all();
}

void ImageBuild::publish_layers(std::stop_token stop) {
  while (const auto pending = unpublished_.pop(stop)) publish(**pending, stop);
}

void ImageBuild::make_manifest() {
  std::vector<Descriptor> layers;
  if (base_) layers.push_back(*base_);
  for (const ConvertedLayer& layer : result_.layers) layers.push_back(layer.converted);
  std::vector<Digest> diff_ids;
  for (const Descriptor& layer : layers) diff_ids.push_back(layer.digest);  // the blob is the uncompressed tar
  const std::string config = rewrite_config(config_bytes_, diff_ids);
  const Descriptor config_descriptor{
      .media_type = std::string(options_.oci ? media_type::kOciConfig : media_type::kDockerConfig),
      .digest = Digest::of(config),
      .size = config.size()};
  const MediaTypes types = options_.oci ? MediaTypes::kOci : MediaTypes::kDocker;
  const std::string manifest = rewrite_manifest(source_.bytes, types, config_descriptor, layers);
  result_.manifest = {.media_type = std::string(options_.oci ? media_type::kOciManifest : media_type::kDockerManifest),
                      .digest = Digest::of(manifest),
                      .size = manifest.size()};
  if (options_.dump_manifest) {
    fs::create_directories(directory());
    write_file_atomically(directory() / "config.json", config);
    write_file_atomically(directory() / "manifest.json", manifest);
  }
  if (options_.upload) workshop_.target.push_bytes(config, outer_stop_);
  result_.manifest_bytes = manifest;
}

ConvertedImage ImageBuild::run() {
  read_manifest();
  stages_.start("publish", [this](std::stop_token stop) { publish_layers(std::move(stop)); });
  try {
    apply_all();
  } catch (const Cancelled&) {
    stages_.join();  // throws what stopped the stages, if anything failed
    throw;
  } catch (...) {
    stages_.fail(std::current_exception());
  }
  stages_.join();
  make_manifest();
  return std::move(result_);
}

}  // namespace

std::string ConvertOptions::layer_key() const {
  return fmt::format("overlaybd-convertor/1 ext4 {} vsize={} {}/{}", mkfs ? "mkfs" : "base", vsize_gib,
                     blockfs::algorithm_name(zfile.algorithm), zfile.block_bytes);
}

ConvertedImage convert_image(const Workshop& workshop, const registry::Manifest& manifest,
                             uint64_t metadata_budget_bytes, const std::string& label, std::stop_token stop) {
  return ImageBuild(workshop, manifest, metadata_budget_bytes, label, std::move(stop)).run();
}

}  // namespace obd::convertor
