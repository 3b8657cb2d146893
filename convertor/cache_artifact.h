#pragma once

#include <stop_token>
#include <string>

#include "convertor/cache_document.h"
#include "registry/registry.h"

namespace obd::convertor {

/// The cache as it lies in a repository: an OCI artifact whose one layer is the document;
/// convertor/FORMAT.md, "Artifact". OCI image specification 1.1, "Guidelines for Artifact Usage".
///
/// Errors: what the repository throws.

/// Whether the manifest says that it is a cache; nothing else of it is looked at.
bool is_cache(const registry::Manifest& manifest);

/// Throws DataError for a cache, where an image is wanted.
void refuse_cache(const registry::Manifest& manifest);

/// Requires is_cache(). Throws as cache_document::parse(), and DataError for an artifact that is malformed,
/// whose document is too large or is gone.
CacheRecords pull_cache(registry::Repository& repository, const registry::Manifest& manifest,
                        const std::stop_token& stop);

/// Pushes what the manifest of such a cache names; returns that manifest, which is left to be pushed.
std::string push_cache_blobs(registry::Repository& repository, const CacheRecords& records,
                             const std::stop_token& stop);

}  // namespace obd::convertor
