#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "common/byte_source.h"
#include "registry/index_document.h"
#include "registry/registry.h"

namespace obd::registry {

// What the repositories whose blobs lie on this machine share. `where` is their name, for messages.

/// Throws Cancelled.
void throw_if_stopped(const std::stop_token& stop);

/// All of a small source. Throws DataError, unread, if it has more than `max_bytes`.
std::string read_text(const ByteSource& source, uint64_t max_bytes);

/// Throws DataError unless a blob has the size that was promised.
void check_blob_size(const BlobId& blob, uint64_t found, const std::string& where);

/// Repository::pull_blob() for a source that has the blob's size.
void pull_from(const ByteSource& source, const BlobId& blob, const BlobConsumer& consume,
               const std::stop_token& stop, const std::string& where);

/// Repository::list_referrers(): those of `entries`, all that an index.json lists, that refer to `subject`.
std::vector<Referrer> find_referrers(Repository& repository, const std::vector<LayoutEntry>& entries,
                                     const Digest& subject, const std::stop_token& stop);

}  // namespace obd::registry
