#pragma once

#include <stop_token>

#include "registry/client.h"
#include "registry/registry.h"

namespace obd::registry {

/// Reads a whole blob, in order, unverified. Starts with one request. Where that turns out to be slow, and
/// the blob is large, the rest comes in pieces over several connections at once, if the server can send
/// parts: what one connection yields is often limited by its round trip or by the server. A slow consumer is
/// not taken for a slow server.
///
/// Memory:  pieces that came early wait: at most `streams` of them (32 MiB).
/// Threads: `consume` is called by the caller's thread alone.
/// Errors:  as RangeReader.
void read_blob(RegistryClient& client, const BlobId& blob, const BlobConsumer& consume,
               const std::stop_token& stop);

}  // namespace obd::registry
