#pragma once

#include <cstdint>
#include <map>
#include <stop_token>
#include <string>

#include "common/byte_source.h"

namespace obd::registry {

/// One member of an uncompressed tar archive.
struct TarMember {
  enum class Kind {
    kFile,
    kHardlink,
    kSymlink,
    kDirectory,
    kOther,  // a device, a sparse file: nothing whose bytes lie in the archive as they are
  };
  Kind kind = Kind::kOther;
  uint64_t offset = 0;      // of a file's bytes in the archive
  uint64_t size = 0;        // bytes
  std::string target = {};  // of links, as the archive has it
};

/// Where the members of a tar archive lie, by name. A name is that of the archive with "./", doubled and
/// trailing slashes taken away, and is never a path of this machine.
using TarIndex = std::map<std::string, TarMember>;

inline constexpr size_t kMaxTarMembers = 1 << 20;
inline constexpr uint64_t kMaxTarNameBytes = 64 << 20;  // of all names and targets together

/// Reads every header once; content is passed over. Of members with the same name the last one counts. An
/// archive without an end mark is accepted, as by tar.
///
/// Errors: DataError that names the archive and the offset: no tar archive, a damaged header, a member that
///         reaches beyond the end of the archive, more members or names than the limits above.
TarIndex read_tar_index(const ByteSource& archive, const std::stop_token& stop);

/// The file that `name` is or leads to, over hard links and symbolic links within the archive; null if there
/// is no such member. `where` is named in messages. Throws DataError for links that form a loop, point
/// nowhere or leave the archive, and for members that are no files.
const TarMember* find_file(const TarIndex& index, const std::string& name, const std::string& where);

/// A member's name for messages: shortened, and without bytes that a terminal would act on.
std::string shown_name(const std::string& name);

}  // namespace obd::registry
