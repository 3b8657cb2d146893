#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "blockfs/zfile_writer.h"
#include "convertor/image.h"

namespace obd::convertor {

/// What shapes the result, and how the work is done. Only what is marked so changes a byte of a layer.
struct ConvertOptions {
  /// Changes layers: a filesystem is made in the bottom layer; otherwise `base_layer` lies below it.
  bool mkfs = true;
  /// Changes layers: the virtual disk in GiB, 1 to 16384.
  uint64_t vsize_gib = 64;
  /// Changes layers.
  blockfs::ZFileOptions zfile = {};
  /// Used where `mkfs` is not set.
  std::filesystem::path base_layer = {};
  /// OCI media types on the result; otherwise Docker's.
  bool oci = false;
  /// The result names its source as its subject, so that it is found as the source's referrer. Needs `oci`.
  bool referrer = false;

  /// The images of an index that are converted; empty: all.
  std::vector<Platform> platforms = {};
  /// The result is an index of the source's images and the converted ones.
  bool merge_index = false;

  /// Images of an index converted at a time, as far as `metadata_budget_bytes` goes; 0 is no limit.
  uint64_t concurrency_limit = 4;
  /// In bytes: for the filesystem metadata of all images converted at a time, and for there being several.
  uint64_t metadata_budget_bytes = 384 << 20;
  /// Without it nothing is pushed, reused or recorded; digests are computed all the same.
  bool upload = true;
  /// A database that is out of reach ends the run instead of being done without.
  bool require_db = false;
  /// Keep each layer's blob in `work_directory`.
  bool reserve = false;
  /// Write manifest and config of each image to `work_directory`.
  bool dump_manifest = false;
  std::filesystem::path work_directory = "tmp_conv";
  /// For tests: close the filesystem after each layer and reopen it from the blobs written so far.
  bool reopen_each_layer = false;

  /// What of these options a layer depends on; part of the LSMT user_tag.
  std::string layer_key() const;
};

}  // namespace obd::convertor
