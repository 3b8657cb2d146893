#include "tools/progress_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <nlohmann/json.hpp>
#include <streambuf>

#include "common/error.h"
#include "tools/cli.h"

namespace obd::tools {
namespace {

using convertor::LayerProgress;
using State = LayerProgress::State;
using namespace std::chrono_literals;

constexpr auto kAppearsAfter = 1s;
constexpr auto kFrame = 100ms;
constexpr auto kLine = 10s;
constexpr size_t kMaxBlockLines = 12;
constexpr int kBarCells = 24;

std::string_view state_name(State state) {
  switch (state) {
    case State::kWaiting:
      return "waiting";
    case State::kFetching:
      return "fetching";
    case State::kApplying:
      return "applying";
    case State::kPublishing:
      return "publishing";
    case State::kDone:
      return "done";
  }
  return "";
}

std::string layer_line(const LayerProgress& layer) {
  const uint64_t fetched = layer.fetched_bytes;
  const uint64_t total = std::max<uint64_t>(1, layer.total_bytes);
  const int filled = static_cast<int>(std::min<uint64_t>(kBarCells, fetched * kBarCells / total));
  return fmt::format("{}{:>3} {} [{:<{}}] {:>10} {}", layer.image.empty() ? "" : layer.image + " ",
                     layer.number, layer.digest, std::string(static_cast<size_t>(filled), '='), kBarCells,
                     human_bytes(layer.applied_bytes), state_name(layer.state));
}

struct Totals {
  size_t done = 0;
  size_t layers = 0;
  uint64_t fetched = 0;
  uint64_t total = 0;
  uint64_t applied = 0;
};

Totals sum(const std::vector<const LayerProgress*>& layers) {
  Totals totals{.layers = layers.size()};
  for (const LayerProgress* layer : layers) {
    totals.done += layer->state == State::kDone;
    totals.fetched += layer->fetched_bytes;
    totals.total += layer->total_bytes;
    totals.applied += layer->applied_bytes;
  }
  return totals;
}

}  // namespace

ProgressMode parse_progress_mode(std::string_view text) {
  if (text == "auto") return ProgressMode::kAuto;
  if (text == "plain") return ProgressMode::kPlain;
  if (text == "json") return ProgressMode::kJson;
  if (text == "none") return ProgressMode::kNone;
  throw UsageError(fmt::format("--progress '{}' is unknown: use auto, plain, json or none", printable(text)));
}

/// Takes the block away before text goes to the same terminal.
class ProgressView::LogBuffer final : public std::streambuf {
 public:
  explicit LogBuffer(ProgressView& view) : view_(view) {}

 protected:
  std::streamsize xsputn(const char* text, std::streamsize count) override {
    const std::lock_guard lock(view_.mutex_);
    view_.erase();
    view_.err_.write(text, count);
    view_.err_.flush();
    return count;
  }
  int_type overflow(int_type c) override {
    if (c == traits_type::eof()) return 0;
    const char byte = static_cast<char>(c);
    return xsputn(&byte, 1) == 1 ? c : traits_type::eof();
  }

 private:
  ProgressView& view_;
};

ProgressView::ProgressView(const convertor::ProgressBoard& board, std::ostream& err, ProgressMode mode,
                           bool terminal)
    : board_(board),
      err_(err),
      mode_(mode),
      block_(mode == ProgressMode::kAuto && terminal),
      log_buffer_(std::make_unique<LogBuffer>(*this)),
      log_(log_buffer_.get()) {
  if (mode_ != ProgressMode::kNone) {
    thread_ = std::jthread([this](std::stop_token stop) { run(std::move(stop)); });
  }
}

ProgressView::~ProgressView() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  const std::lock_guard lock(mutex_);
  erase();
}

void ProgressView::run(std::stop_token stop) {
  std::mutex waiting;
  std::condition_variable_any never;
  std::unique_lock lock(waiting);
  const auto pause = [&](auto duration) {
    never.wait_for(lock, stop, duration, [] { return false; });
    return !stop.stop_requested();
  };
  if (!pause(kAppearsAfter)) return;
  do {
    const std::lock_guard drawing(mutex_);
    if (block_) {
      draw_block();
    } else if (mode_ == ProgressMode::kJson) {
      print_json();
    } else {
      print_line();
    }
    err_.flush();
  } while (block_ ? pause(kFrame) : pause(kLine));
}

void ProgressView::erase() {
  if (drawn_lines_ == 0) return;
  err_ << fmt::format("\x1b[{}A\x1b[J", drawn_lines_);  // up, and clear to the end of the screen
  drawn_lines_ = 0;
}

void ProgressView::draw_block() {
  const auto layers = board_.layers();
  const Totals totals = sum(layers);
  std::string text;
  size_t lines = 1;
  for (const LayerProgress* layer : layers) {
    const State state = layer->state;
    if (state == State::kWaiting || state == State::kDone || lines == kMaxBlockLines) continue;
    text += layer_line(*layer) + '\n';
    ++lines;
  }
  text += fmt::format("{} of {} layers done, {} of {} fetched\n", totals.done, totals.layers,
                      human_bytes(totals.fetched), human_bytes(totals.total));
  erase();
  err_ << text;
  drawn_lines_ = lines;
}

void ProgressView::print_line() {
  const Totals totals = sum(board_.layers());
  err_ << fmt::format("progress: {} of {} layers done, {} of {} fetched, {} applied\n", totals.done,
                      totals.layers, human_bytes(totals.fetched), human_bytes(totals.total),
                      human_bytes(totals.applied));
}

void ProgressView::print_json() {
  const Totals totals = sum(board_.layers());
  const nlohmann::ordered_json line = {{"type", "progress"},          {"layers_done", totals.done},
                                       {"layers", totals.layers},     {"fetched_bytes", totals.fetched},
                                       {"total_bytes", totals.total}, {"applied_bytes", totals.applied}};
  err_ << line.dump() << '\n';
}

}  // namespace obd::tools
