#pragma once

#include <filesystem>
#include <iosfwd>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "common/byte_source.h"
#include "registry/registry.h"
#include "tools/cli.h"

namespace obd::tools {

inline constexpr const char* kRepositoryHelp =
    "Registry repository (HOST/NAME), layout (oci:DIRECTORY) or archive (oci-archive:FILE, "
    "docker-archive:FILE)";

/// What a command looks at: an image in a repository, or layer blobs in files.
struct Operands {
  std::unique_ptr<registry::Repository> repository;  // null where files were given
  std::string reference;                             // tag or digest in it
  std::vector<std::filesystem::path> files;
};

/// -r, -i, -g and the flags of tools/registry_options.h; `files` as positional arguments, which `files_help`
/// explains.
void add_operand_options(cxxopts::Options& options, const char* files_help);

/// Throws UsageError unless either an image or files were given. A password may come from `in`.
Operands parse_operands(const cxxopts::ParseResult& parsed, std::istream& in);

/// `options` with temporary files where they usually are.
registry::RepositoryOptions with_temporary_files(registry::RepositoryOptions options);

/// A blob for reading all of it in any order. One of a layout or an archive is read where it lies,
/// unverified; one of a remote registry is pulled and verified first, into memory or a file without a name.
std::shared_ptr<const ByteSource> fetch_blob(registry::Repository& repository, const registry::BlobId& blob,
                                             std::stop_token stop);

/// Whether the blobs of `repository` lie in files of this machine: a layout, an archive.
bool is_local(const registry::Repository& repository);

}  // namespace obd::tools
