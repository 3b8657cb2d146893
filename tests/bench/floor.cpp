// Measures what no conversion of a gzip layer can avoid, on the bytes of that layer, step by step:
// SHA-256 of the input, inflation, SHA-256 of the tar, LZ4 and CRC-32C of file data in 4 KiB blocks, SHA-256
// of the output; and the I/O: reading the input, writing the output once, reading it back.
//
// Usage: floor SCRATCH_FILE LAYER.tar.gz...
// Prints one JSON object. Times of the computing part are CPU seconds of this thread without I/O.

#include <fcntl.h>
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <lz4.h>
#include <openssl/evp.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace {

constexpr size_t kBlock = 4096;
constexpr size_t kTarBlock = 512;
constexpr size_t kInputBuffer = 256 << 10;
constexpr size_t kOutputBuffer = 256 << 10;
constexpr uint32_t kCrcSeed = 100007;

using Bytes = std::span<const unsigned char>;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "floor: %s\n", what.c_str());
  std::exit(1);
}

[[noreturn]] void fail_errno(const std::string& what) {
  fail(what + ": " + std::system_category().message(errno));
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Adds the CPU time of a scope to a total.
class Timed {
 public:
  explicit Timed(double& total) : total_(total), begin_(cpu_seconds()) {}
  ~Timed() { total_ += cpu_seconds() - begin_; }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  double& total_;
  double begin_;
};

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1)
      fail("SHA-256 is not there");
  }
  void update(Bytes data) { EVP_DigestUpdate(context_.get(), data.data(), data.size()); }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

class File {
 public:
  File(const std::string& path, int flags) : path_(path), fd_(open(path.c_str(), flags | O_CLOEXEC, 0600)) {
    if (fd_ < 0) fail_errno(path);
  }
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  size_t read_some(std::span<unsigned char> buffer) {
    const ssize_t got = read(fd_, buffer.data(), buffer.size());
    if (got < 0) fail_errno(path_);
    return static_cast<size_t>(got);
  }
  void write_all(Bytes data) {
    while (!data.empty()) {
      const ssize_t put = write(fd_, data.data(), data.size());
      if (put < 0) fail_errno(path_);
      data = data.subspan(static_cast<size_t>(put));
    }
  }
  void rewind() { lseek(fd_, 0, SEEK_SET); }

 private:
  std::string path_;
  int fd_;
};

struct Totals {
  double sha_input = 0, inflate = 0, sha_tar = 0, compress = 0, sha_output = 0;
  uint64_t input = 0, tar = 0, data = 0, output = 0;
};

// Compresses data in 4 KiB blocks, gathers the result in a small buffer and hashes it.
class Compressor {
 public:
  explicit Compressor(Totals& totals) : totals_(totals), state_(static_cast<size_t>(LZ4_sizeofState())) {}

  void add(Bytes data) {
    totals_.data += data.size();
    while (!data.empty()) {
      if (used_ == 0 && data.size() >= kBlock) {
        block(data.data());
        data = data.subspan(kBlock);
        continue;
      }
      const size_t take = std::min(kBlock - used_, data.size());
      std::memcpy(partial_.data() + used_, data.data(), take);
      used_ += take;
      data = data.subspan(take);
      if (used_ == kBlock) end_file();
    }
  }

  // A file's last block is filled with zeroes.
  void end_file() {
    if (used_ == 0) return;
    std::memset(partial_.data() + used_, 0, kBlock - used_);
    block(partial_.data());
    used_ = 0;
  }

  void flush() {
    const Timed timed(totals_.sha_output);
    sha_.update({out_.data(), filled_});
    totals_.output += filled_;
    filled_ = 0;
  }

 private:
  void block(const unsigned char* data) {
    if (out_.size() - filled_ < LZ4_COMPRESSBOUND(kBlock) + sizeof(uint32_t)) flush();
    auto* target = out_.data() + filled_;
    const int size =
        LZ4_compress_fast_extState(state_.data(), reinterpret_cast<const char*>(data),
                                   reinterpret_cast<char*>(target), kBlock, LZ4_COMPRESSBOUND(kBlock), 1);
    const uint32_t crc = crc32_iscsi(target, size, kCrcSeed);
    std::memcpy(target + size, &crc, sizeof crc);
    filled_ += static_cast<size_t>(size) + sizeof crc;
  }

  Totals& totals_;
  std::vector<char> state_;
  std::array<unsigned char, kBlock> partial_{};
  size_t used_ = 0;
  std::vector<unsigned char> out_ = std::vector<unsigned char>(256 << 10);
  size_t filled_ = 0;
  Sha256 sha_;
};

// Finds file data in a stream of tar bytes. Knows as much of tar as the benchmark's own images need.
class TarSplitter {
 public:
  explicit TarSplitter(Compressor& sink) : sink_(sink) {}

  void add(Bytes bytes) {
    while (!bytes.empty()) {
      if (left_ > 0) {
        const size_t take = std::min<uint64_t>(left_, bytes.size());
        const size_t data = std::min<uint64_t>(data_left_, take);
        if (data > 0) sink_.add(bytes.first(data));
        data_left_ -= data;
        left_ -= take;
        bytes = bytes.subspan(take);
        if (left_ == 0) sink_.end_file();
        continue;
      }
      const size_t take = std::min(kTarBlock - filled_, bytes.size());
      std::memcpy(header_.data() + filled_, bytes.data(), take);
      filled_ += take;
      bytes = bytes.subspan(take);
      if (filled_ == kTarBlock) {
        filled_ = 0;
        start_entry();
      }
    }
  }

 private:
  void start_entry() {
    uint64_t size = 0;
    for (size_t i = 124; i < 135 && header_[i] >= '0' && header_[i] <= '7'; ++i) {
      size = size * 8 + static_cast<uint64_t>(header_[i] - '0');
    }
    const unsigned char type = header_[156];
    const bool is_file = type == '0' || type == 0;
    left_ = (size + kTarBlock - 1) / kTarBlock * kTarBlock;
    data_left_ = is_file ? size : 0;
  }

  Compressor& sink_;
  std::array<unsigned char, kTarBlock> header_{};
  size_t filled_ = 0;
  uint64_t left_ = 0;       // of the entry's body and padding
  uint64_t data_left_ = 0;  // of it, what is file data
};

void measure_layer(const std::string& path, Totals& totals) {
  File file(path, O_RDONLY);
  std::vector<unsigned char> in(kInputBuffer), out(kOutputBuffer);
  auto state = std::make_unique<inflate_state>();
  isal_inflate_init(state.get());
  state->crc_flag = ISAL_GZIP;
  Sha256 sha_input, sha_tar;
  Compressor compressor(totals);
  TarSplitter splitter(compressor);
  while (const size_t got = file.read_some(in)) {
    totals.input += got;
    {
      const Timed timed(totals.sha_input);
      sha_input.update({in.data(), got});
    }
    state->next_in = in.data();
    state->avail_in = static_cast<uint32_t>(got);
    do {
      state->next_out = out.data();
      state->avail_out = static_cast<uint32_t>(out.size());
      {
        const Timed timed(totals.inflate);
        if (isal_inflate(state.get()) != ISAL_DECOMP_OK) fail(path + ": not a gzip stream");
      }
      const Bytes plain{out.data(), out.size() - state->avail_out};
      totals.tar += plain.size();
      {
        const Timed timed(totals.sha_tar);
        sha_tar.update(plain);
      }
      const double hashed = totals.sha_output;
      {
        const Timed timed(totals.compress);
        splitter.add(plain);
      }
      totals.compress -= totals.sha_output - hashed;
    } while (state->block_state != ISAL_BLOCK_FINISH && (state->avail_in > 0 || state->avail_out == 0));
  }
  if (state->block_state != ISAL_BLOCK_FINISH) fail(path + ": the gzip stream is cut");
  compressor.flush();
}

struct Usage {
  double user, system, wall;
};

Usage usage_now() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return {seconds(usage.ru_utime), seconds(usage.ru_stime),
          static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec)};
}

// The I/O that every conversion has: all input read, `output` bytes written once and read back.
Usage measure_io(const std::string& scratch, std::span<char*> layers, uint64_t output) {
  std::vector<unsigned char> buffer(1 << 20, 0xA5);
  const Usage before = usage_now();
  for (const char* layer : layers) {
    File file(layer, O_RDONLY);
    while (file.read_some(buffer) > 0) {
    }
  }
  File file(scratch, O_RDWR | O_CREAT | O_TRUNC);
  for (uint64_t left = output; left > 0;) {
    const size_t size = std::min<uint64_t>(left, buffer.size());
    file.write_all({buffer.data(), size});
    left -= size;
  }
  file.rewind();
  while (file.read_some(buffer) > 0) {
  }
  const Usage after = usage_now();
  unlink(scratch.c_str());
  return {after.user - before.user, after.system - before.system, after.wall - before.wall};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) fail("usage: floor SCRATCH_FILE LAYER.tar.gz...");
  const std::span<char*> layers(argv + 2, static_cast<size_t>(argc - 2));
  Totals totals;
  for (const char* layer : layers) measure_layer(layer, totals);
  // Like a conversion, the first pass writes to memory that the kernel must look for, the second to what the
  // first has just given back.
  const Usage io = measure_io(argv[1], layers, totals.output);
  const Usage io_again = measure_io(argv[1], layers, totals.output);
  const double cpu = totals.sha_input + totals.inflate + totals.sha_tar + totals.compress + totals.sha_output;
  std::printf(
      "{\"sha256_input\": %.4f, \"inflate\": %.4f, \"sha256_tar\": %.4f, \"compress\": %.4f, "
      "\"sha256_output\": %.4f, "
      "\"cpu\": %.4f, \"io_user\": %.4f, \"io_system\": %.4f, \"io_wall\": %.4f, "
      "\"io_again_system\": %.4f, "
      "\"input_bytes\": %llu, \"tar_bytes\": %llu, \"data_bytes\": %llu, \"output_bytes\": %llu}\n",
      totals.sha_input, totals.inflate, totals.sha_tar, totals.compress, totals.sha_output, cpu, io.user,
      io.system, io.wall, io_again.system, static_cast<unsigned long long>(totals.input),
      static_cast<unsigned long long>(totals.tar), static_cast<unsigned long long>(totals.data),
      static_cast<unsigned long long>(totals.output));
  return 0;
}
