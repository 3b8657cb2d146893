#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convertor/tag_converter.h"
#include "registry/registry.h"
#include "tests/support/memory.h"
#include "tests/support/temporary_directory.h"

namespace obd::convertor {

/// One layer of an image that a test makes.
struct SourceLayer {
  test::Bytes tar;
  test::Bytes blob;                    // what is stored; empty: gzip of `tar`
  std::optional<Digest> diff_id = {};  // what the config claims; none: the truth
  std::vector<std::string> urls = {};  // some: a foreign layer, which is not stored
};

/// An OCI layout in a temporary directory, to which a test adds images.
class LayoutImages {
 public:
  LayoutImages();

  registry::Repository& repository() { return *repository_; }
  const std::filesystem::path& path() const { return path_; }

  Descriptor add_blob(std::string_view media_type, const test::Bytes& content);
  /// Pushes an image and tags it if there is a tag.
  Descriptor add_image(const std::vector<SourceLayer>& layers, const std::optional<std::string>& tag = {},
                       const Platform& platform = {.os = "linux", .architecture = "amd64"});
  Descriptor add_index(const std::vector<Descriptor>& manifests, const std::optional<std::string>& tag = {});
  Descriptor add_manifest(std::string_view media_type, const std::string& bytes,
                          const std::optional<std::string>& tag);
  std::string manifest(const std::string& reference);
  std::string blob(const Digest& digest) const;
  /// Where that blob is, for tests that damage it.
  std::filesystem::path blob_path(const Digest& digest) const;
  /// All files below, relative.
  std::vector<std::string> files() const;

 private:
  test::TemporaryDirectory directory_;
  const std::filesystem::path path_;
  std::unique_ptr<registry::Repository> repository_;
};

/// From one layout to the tag "out" of another, on a disk of 1 GiB unless the options say otherwise.
struct LayoutConversion {
  LayoutImages& source;
  LayoutImages& target;
  std::filesystem::path work_directory;
  std::string reference = "in";
  ConvertOptions options = {};  // but for the work directory
  dedupdb::RecordStore* records = nullptr;
  registry::ForeignBlobs* foreign = nullptr;
  size_t threads = 2;
  std::stop_token stop = {};
};
ConvertResult convert(LayoutConversion conversion);

}  // namespace obd::convertor
