#include "convertor/image_converter.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <optional>

#include "blockfs/ext4/capacity.h"
#include "blockfs/ext4/filesystem.h"
#include "blockfs/layer_blob.h"
#include "blockfs/layer_stack.h"
#include "blockfs/lsmt_format.h"
#include "common/error.h"
#include "common/log.h"
#include "convertor/layer_output.h"
#include "convertor/layer_source.h"

namespace obd::convertor {
namespace {

namespace fs = std::filesystem;

/// Layers that are applied but not yet published.
constexpr uint64_t kMaxUnpublished = 4;
/// Of a layer that is converted but not pushed, before it goes to a file.
constexpr uint64_t kUnpushedMemoryBytes = 8 << 20;

/// Whether the content of a blob is not what its digest says, each time that it is read.
bool is_damaged(registry::Repository& repository, const registry::BlobId& blob, const std::stop_token& stop) {
  constexpr int kTimes = 2;  // the first time it may have been damaged on its way
  for (int i = 0; i < kTimes; ++i) {
    try {
      repository.pull_blob(
          blob, [](auto) {}, stop);
      return false;
    } catch (const DataError& error) {
      log::info("blob={} cause=\"{}\"", blob.digest.brief(), error.what());
    } catch (const Error& error) {
      log::info("blob={} not read cause=\"{}\"", blob.digest.brief(), error.what());
      return false;
    }
  }
  return true;
}

/// Advice on a size that rests on a damaged layer is none: that the layer is damaged is said first.
void verify_rest(blockfs::LayerTar& tar, LayerSource& source) {
  tar.drain();
  source.verify();
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
  ImageBuild(const RunContext& context, const registry::Manifest& manifest, const ImageShare& share,
             std::string label, std::stop_token stop);

  ConvertedImage run();

 private:
  /// An applied layer on its way to the registry.
  struct Pending {
    std::unique_ptr<LayerOutput> output;
    ConvertedLayer layer;
    size_t index;
    std::unique_ptr<dedupdb::Lease> lease;  // given back when the layer is recorded, or given up
  };

  void publish_base();
  size_t reuse_layers();
  bool reuse_layer(size_t index);
  void show_progress(size_t first);
  void start_sources(size_t applied);
  void prepare_disk(size_t reused);
  std::shared_ptr<Spool> new_spool();
  void make_layers(size_t first);
  void apply_all(size_t first);
  void lease_next(size_t index);
  void apply(size_t index);
  [[noreturn]] void advise_size(const blockfs::LayerDoesNotFit& full, size_t next);
  void reopen_disk();
  void publish_layers();
  void publish(Pending& pending, std::stop_token stop);
  /// `index`: none is the separate base layer.
  void keep_copy(std::optional<size_t> index, const registry::BlobId& blob,
                 const std::function<void(ByteSink&)>& write) const;
  std::optional<Digest> below(size_t index) const;
  [[noreturn]] void refuse_damaged(const Digest& layer) const;
  void blame_damaged_layer(const DataError& error);
  void make_manifest();
  std::string layer_name(size_t index) const;
  fs::path directory() const;

  const RunContext& context_;
  const Workshop& workshop_;
  const ConvertOptions& options_;
  const registry::Manifest& source_;
  const ImageShare share_;
  const std::string label_;
  std::stop_token outer_stop_;

  SourceImage image_;
  std::vector<LayerProgress*> progress_;   // null for a layer that is reused
  std::unique_ptr<dedupdb::Lease> lease_;  // of the next layer to be made

  /// What was there before the first layer made here.
  std::vector<std::shared_ptr<const blockfs::LsmtLayer>> ground_;
  std::unique_ptr<Disk> disk_;
  blockfs::ChunkPool chunks_;
  ConvertedImage result_;                       // its layers are the publishing thread's while that runs
  std::vector<std::shared_ptr<Spool>> spools_;  // kept only to reopen the disk from them

  std::mutex mutex_;  // guards published_
  std::condition_variable_any published_changed_;
  size_t published_ = 0;  // layers made here

  BoundedQueue<std::shared_ptr<Pending>> unpublished_{kMaxUnpublished};
  StageGroup stages_;
  std::deque<std::unique_ptr<LayerSource>> sources_;  // the front is the next to be applied
  size_t started_ = 0;
};

ImageBuild::ImageBuild(const RunContext& context, const registry::Manifest& manifest, const ImageShare& share,
                       std::string label, std::stop_token stop)
    : context_(context),
      workshop_(context.workshop),
      options_(context.workshop.options),
      source_(manifest),
      share_(share),
      label_(std::move(label)),
      outer_stop_(stop),
      stages_(std::move(stop)) {
  result_.source_digest = manifest.digest;
}

std::string ImageBuild::layer_name(size_t index) const {
  return fmt::format("{}layer {} of {} ({})", label_.empty() ? "" : label_ + ", ", index + 1,
                     image_.manifest.layers.size(),
                     image_.manifest.layers[index].digest.text().substr(0, 19));
}

fs::path ImageBuild::directory() const {
  return options_.work_directory / std::string(source_.digest.brief());
}

/// The blob that layer `index` lies on. Requires that it is known, as it is when the layers below are
/// published.
std::optional<Digest> ImageBuild::below(size_t index) const {
  return index > 0 ? result_.layers.at(index - 1).converted.digest : context_.base_digest();
}

void ImageBuild::publish_base() {
  if (!context_.base) return;
  if (options_.upload) context_.base->publish(workshop_.target, outer_stop_);
  if (options_.reserve) {
    keep_copy(std::nullopt, context_.base->blob(), [this](ByteSink& out) { context_.base->write(out); });
  }
  ground_.push_back(context_.base->layer());
}

/// Takes the lowest layers from what others made. Returns how many; if that is not all of them, the right to
/// make the next one is ours.
size_t ImageBuild::reuse_layers() {
  if (!context_.reuse) return 0;
  for (size_t index = 0; index < image_.manifest.layers.size(); ++index) {
    if (reuse_layer(index)) continue;
    lease_ = context_.reuse->lease_layer(image_.chain_ids[index], context_.layer_recipe(), true, outer_stop_);
    if (!reuse_layer(index)) return index;
    lease_.reset();  // another converter has made it while we waited
  }
  return image_.manifest.layers.size();
}

bool ImageBuild::reuse_layer(size_t index) {
  const Descriptor& layer = image_.manifest.layers[index];
  const auto blob = context_.reuse->find_layer(
      context_.identity(image_, index, below(index)),
      [&] { return workshop_.source.has_blob(layer.blob(), outer_stop_); }, outer_stop_);
  if (!blob) return false;
  if (options_.reserve) {
    keep_copy(index, *blob, [&](ByteSink& out) {
      workshop_.target.pull_blob(
          *blob, [&](std::span<const std::byte> data) { out.append(data); }, outer_stop_);
    });
  }
  result_.layers.push_back({.source_digest = image_.manifest.layers[index].digest,
                            .converted = layer_descriptor(*blob, context_.media_types()),
                            .applied = {},
                            .reused = true});
  return true;
}

void ImageBuild::show_progress(size_t first) {
  progress_.resize(first);
  for (size_t i = first; i < image_.manifest.layers.size(); ++i) {
    const Descriptor& layer = image_.manifest.layers[i];
    progress_.push_back(
        &workshop_.progress.add(label_, i + 1, std::string(layer.digest.brief()), layer.size));
  }
}

void ImageBuild::start_sources(size_t applied) {
  while (started_ < image_.manifest.layers.size() && started_ <= applied + share_.layers_ahead) {
    sources_.push_back(std::make_unique<LayerSource>(
        workshop_.source_place(), image_.manifest.layers[started_], image_.config.diff_ids[started_],
        layer_name(started_), chunks_, *progress_[started_], stages_.token()));
    ++started_;
  }
}

void ImageBuild::prepare_disk(size_t reused) {
  for (size_t index = 0; index < reused; ++index) {
    ground_.push_back(
        blockfs::open_layer_blob(workshop_.target.open_blob(result_.layers[index].converted.blob())).layer);
  }
  disk_ = std::make_unique<Disk>(blockfs::LayerStack(ground_), share_.metadata_bytes);
  disk_->filesystem = ground_.empty() ? blockfs::Filesystem::create(disk_->store, options_.vsize_gib << 30)
                                      : blockfs::Filesystem::open(disk_->store);
}

std::shared_ptr<Spool> ImageBuild::new_spool() {
  std::shared_ptr<Spool> spool =
      options_.upload ? workshop_.target.new_spool()
                      : std::make_unique<Spool>(Spool::Options{.directory = options_.work_directory,
                                                               .memory_limit = kUnpushedMemoryBytes});
  if (options_.reopen_each_layer) spools_.push_back(spool);
  return spool;
}

/// Before the layer below is given free: who waits for that one comes for this one next. Another can have
/// this lease only if a row of a layer below was lost meanwhile: then both make it, which costs time alone.
void ImageBuild::lease_next(size_t index) {
  if (!context_.reuse || index == image_.chain_ids.size()) return;
  lease_ =
      context_.reuse->lease_layer(image_.chain_ids[index], context_.layer_recipe(), false, stages_.token());
}

void ImageBuild::apply(size_t index) {
  const uint64_t cpu_before = thread_cpu_nanoseconds();
  start_sources(index);
  const auto source = std::move(sources_.front());
  sources_.pop_front();
  LayerProgress& progress = *progress_[index];
  progress.state = LayerProgress::State::kApplying;

  const LayerOutput::Identity identity{
      .virtual_bytes = options_.vsize_gib << 30,
      .uuid = blockfs::lsmt_uuid(image_.chain_ids[index]),
      .parent_uuid = context_.identity(image_, index, std::nullopt).parent_uuid,
  };
  auto pending = std::make_shared<Pending>(Pending{
      .output =
          std::make_unique<LayerOutput>(new_spool(), options_.zfile, identity, workshop_.pool, outer_stop_),
      .layer = {.source_digest = image_.manifest.layers[index].digest, .converted = {}},
      .index = index,
      .lease = std::move(lease_)});
  blockfs::LayerTar tar(layer_name(index), *source);
  try {
    pending->layer.applied =
        blockfs::apply_layer(*disk_->filesystem, disk_->store, tar, pending->output->sink());
  } catch (const blockfs::LayerDoesNotFit& full) {
    verify_rest(tar, *source);
    advise_size(full, index + 1);
  }
  source->verify();
  if (const uint64_t skipped = pending->layer.applied.skipped_xattrs; skipped > 0) {
    log::warn("{}: {} extended attributes left out: Linux does not take them there", layer_name(index),
              skipped);
  }
  disk_->stack.push(pending->output->finish_index(layer_name(index)));
  pending->layer.uncompressed_bytes = pending->output->uncompressed_bytes();
  progress.state = LayerProgress::State::kPublishing;
  progress.apply_cpu = thread_cpu_nanoseconds() - cpu_before;
  lease_next(index + 1);
  unpublished_.push(std::move(pending), 1, stages_.token());
}

/// The layers above are read for nothing else than to say at once which size holds all of them.
void ImageBuild::advise_size(const blockfs::LayerDoesNotFit& full, size_t next) {
  blockfs::CapacityNeeds needs = full.needs();
  for (; next < image_.manifest.layers.size(); ++next) {
    start_sources(next);
    const auto source = std::move(sources_.front());
    sources_.pop_front();
    blockfs::LayerTar tar(layer_name(next), *source);
    needs.add(blockfs::count_remaining(tar));
    verify_rest(tar, *source);
  }
  throw CapacityError(fmt::format("{}; {}", full.what(), blockfs::vsize_advice(options_.vsize_gib, needs)));
}

/// What a later run does that finds these layers: nothing is left in memory but the blobs.
void ImageBuild::reopen_disk() {
  const std::stop_token stop = stages_.token();
  {
    std::unique_lock lock(mutex_);
    if (!published_changed_.wait(lock, stop, [&] { return published_ == spools_.size(); })) throw Cancelled();
  }
  auto layers = ground_;
  for (const auto& spool : spools_) layers.push_back(blockfs::open_layer_blob(spool).layer);
  disk_.reset();
  disk_ = std::make_unique<Disk>(blockfs::LayerStack(layers), share_.metadata_bytes);
  disk_->filesystem = blockfs::Filesystem::open(disk_->store);
}

void ImageBuild::apply_all(size_t first) {
  start_sources(first);
  prepare_disk(first);
  for (size_t index = first; index < image_.manifest.layers.size(); ++index) {
    apply(index);
    if (options_.reopen_each_layer && index + 1 < image_.manifest.layers.size()) reopen_disk();
  }
  unpublished_.close();
}

void ImageBuild::keep_copy(std::optional<size_t> index, const registry::BlobId& blob,
                           const std::function<void(ByteSink&)>& write) const {
  Spool copy({.directory = directory()});
  write(copy);
  copy.publish_as(directory() /
                  fmt::format("{:04}_{}.overlaybd.commit.tar", index ? *index + 1 : 0, blob.digest.brief()));
}

void ImageBuild::publish(Pending& pending, std::stop_token stop) {
  const uint64_t cpu_before = thread_cpu_nanoseconds();
  LayerProgress& progress = *progress_[pending.index];
  const LayerIdentity identity = context_.identity(image_, pending.index, below(pending.index));
  pending.output->seal(identity.lineage);
  const std::shared_ptr<Spool> spool = pending.output->spool();
  progress.stored_bytes = spool->size();
  const registry::BlobId blob{
      options_.upload ? workshop_.target.push_spool(spool, stop) : spool->digest(stop), spool->size()};
  if (options_.reserve) {
    keep_copy(pending.index, blob, [&](ByteSink& out) { copy_bytes(*spool, out); });
  }
  // What was refused under this digest may be there still, and then nothing was sent.
  if (context_.reuse && context_.reuse->was_refused(blob.digest) &&
      is_damaged(workshop_.target, blob, stop)) {
    refuse_damaged(blob.digest);
  }
  if (context_.reuse) context_.reuse->record_layer(identity, blob, stop);
  pending.lease.reset();
  pending.layer.converted = layer_descriptor(blob, context_.media_types());
  if (options_.upload) pending.output->release_spool(workshop_.target.open_blob(blob));
  log::debug("{}: converted digest={} bytes={}", layer_name(pending.index), blob.digest.brief(), blob.size);
  result_.layers.push_back(std::move(pending.layer));
  progress.publish_cpu = thread_cpu_nanoseconds() - cpu_before;
  progress.state = LayerProgress::State::kDone;
  {
    const std::lock_guard lock(mutex_);
    ++published_;
  }
  published_changed_.notify_all();
}

/// Goes on when a later layer fails: what is finished will be found by the next run.
void ImageBuild::publish_layers() {
  while (const auto pending = unpublished_.pop(outer_stop_)) publish(**pending, outer_stop_);
}

void ImageBuild::make_manifest() {
  std::vector<Descriptor> layers;
  if (context_.base) layers.push_back(layer_descriptor(context_.base->blob(), context_.media_types()));
  for (const ConvertedLayer& layer : result_.layers) layers.push_back(layer.converted);
  RewrittenImage rewritten =
      rewrite_image(source_.bytes, image_.config_bytes, context_.form(source_), layers);
  if (options_.dump_manifest) {
    fs::create_directories(directory());
    write_file_atomically(directory() / "config.json", rewritten.config_bytes);
    write_file_atomically(directory() / "manifest.json", rewritten.manifest_bytes);
  }
  if (options_.upload) workshop_.target.push_bytes(rewritten.config_bytes, outer_stop_);
  result_.manifest = std::move(rewritten.manifest);
  result_.manifest_bytes = std::move(rewritten.manifest_bytes);
}

[[noreturn]] void ImageBuild::refuse_damaged(const Digest& layer) const {
  throw DataError(fmt::format(
      "the converted layer {} is damaged in {}: its content has another digest; {} that blob, then convert "
      "again",
      layer.text(), workshop_.target.name(),
      workshop_.target.location() ? "have the registry's operator restore it, or delete from its storage,"
                                  : "delete"));
}

/// What is taken from the target is looked at where it is needed, no more. Its row stays if it is damaged: a
/// layer made anew would not be sent to a registry that has its digest.
void ImageBuild::blame_damaged_layer(const DataError& error) {
  lease_.reset();  // who waits for the layer need not wait for this
  const std::string_view words = error.what();
  for (const ConvertedLayer& layer : result_.layers) {
    const Digest& digest = layer.converted.digest;
    const bool is_named = words.find(digest.hex()) != std::string_view::npos;
    if (is_named && is_damaged(workshop_.target, layer.converted.blob(), outer_stop_)) refuse_damaged(digest);
  }
}

ConvertedImage ImageBuild::run() {
  image_ = read_source_image(workshop_.source_place(), source_, options_, outer_stop_);
  result_.platform = image_.config.platform;
  publish_base();
  try {
    const size_t reused = reuse_layers();
    if (reused < image_.manifest.layers.size()) make_layers(reused);
  } catch (const blockfs::MetadataBudgetExceeded&) {
    // What had a share only is tried again with all of the budget.
    if (share_.metadata_bytes == options_.metadata_budget_bytes) throw;
    for (LayerProgress* layer : progress_) {
      if (layer) layer->is_given_up = true;
    }
    throw;
  } catch (const DataError& error) {
    if (options_.upload) blame_damaged_layer(error);
    throw;
  }
  make_manifest();
  return std::move(result_);
}

/// Makes the layers from `first` on.
void ImageBuild::make_layers(size_t first) {
  show_progress(first);
  started_ = first;
  stages_.start("publish", [this](const std::stop_token&) { publish_layers(); });
  try {
    apply_all(first);
  } catch (const Cancelled&) {
    stages_.join();  // throws what stopped the stages, if anything failed
    throw;
  } catch (...) {
    stages_.fail(std::current_exception());
    unpublished_.close();
  }
  stages_.join();
}

}  // namespace

ConvertedImage convert_image(const RunContext& context, const registry::Manifest& manifest,
                             const ImageShare& share, const std::string& label, std::stop_token stop) {
  return ImageBuild(context, manifest, share, label, std::move(stop)).run();
}

}  // namespace obd::convertor
