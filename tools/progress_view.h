#pragma once

#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>

#include "convertor/progress.h"

namespace obd::tools {

enum class ProgressMode { kAuto, kPlain, kJson, kNone };

/// Throws UsageError for anything but auto, plain, json and none.
ProgressMode parse_progress_mode(std::string_view text);

/// Shows a ProgressBoard on a stream while it lives: on a terminal a block of lines that is redrawn ten times
/// a second, elsewhere a line every ten seconds; in both cases only once the work takes longer than a second.
///
/// Threads: its own draws; log() may be written to from any thread.
class ProgressView {
 public:
  /// `terminal`: `err` understands control sequences.
  ProgressView(const convertor::ProgressBoard& board, std::ostream& err, ProgressMode mode, bool terminal);
  /// Removes the block.
  ~ProgressView();
  ProgressView(const ProgressView&) = delete;
  ProgressView& operator=(const ProgressView&) = delete;

  /// Lines for the same stream, kept apart from the block.
  std::ostream& log() { return log_; }

 private:
  class LogBuffer;

  void run(std::stop_token stop);
  void erase();
  void draw_block();
  void print_line();
  void print_json();

  const convertor::ProgressBoard& board_;
  std::ostream& err_;
  const ProgressMode mode_;
  const bool block_;  // redraw in place
  std::mutex mutex_;  // guards err_ and drawn_lines_
  size_t drawn_lines_ = 0;
  std::unique_ptr<LogBuffer> log_buffer_;
  std::ostream log_;
  std::jthread thread_;
};

}  // namespace obd::tools
