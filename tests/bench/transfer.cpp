// Pulls or pushes one blob as the product does, and prints what it took. Driven by tests/bench/registry.

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <chrono>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "common/byte_source.h"
#include "common/spool.h"
#include "registry/registry.h"

namespace {

using obd::Digest;
using namespace obd::registry;

std::unique_ptr<Repository> open(const std::string& where, const std::string& scratch) {
  return open_repository(where, {.work_directory = scratch, .spool_memory_bytes = 0});
}

/// Seconds from now until `work` has returned.
template <class Work>
double timed(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::shared_ptr<obd::Spool> spool_of(Repository& repository, const std::string& file) {
  const obd::FileSource source(file);
  const std::shared_ptr<obd::Spool> spool = repository.new_spool();
  std::vector<std::byte> buffer(1 << 20);
  for (uint64_t offset = 0; offset < source.size(); offset += buffer.size()) {
    const auto piece = std::span(buffer).first(std::min<uint64_t>(buffer.size(), source.size() - offset));
    source.read_at(offset, piece);
    spool->append(piece);
  }
  return spool;
}

int run(const std::vector<std::string>& args) {
  if (args.size() != 4 && args.size() != 5) {
    std::cerr << "usage: transfer push REPOSITORY SCRATCH FILE | pull REPOSITORY SCRATCH DIGEST SIZE\n";
    return 2;
  }
  const auto repository = open(args[1], args[2]);
  double seconds = 0;
  if (args[0] == "push") {
    const auto spool = spool_of(*repository, args[3]);
    seconds = timed([&] { repository->push_spool(spool, {}); });
  } else {
    const BlobId blob{Digest::parse(args[3]), std::stoull(args.at(4))};
    seconds = timed([&] { repository->pull_blob(blob, [](std::span<const std::byte>) {}, {}); });
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::cout << fmt::format(R"({{"seconds":{:.4f},"rss":{}}})", seconds, usage.ru_maxrss * 1024L) << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    spdlog::set_default_logger(spdlog::stderr_logger_mt("transfer"));
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::cerr << "transfer: " << error.what() << "\n";
    return 1;
  }
}
