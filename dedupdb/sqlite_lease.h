#pragma once

#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>

#include "dedupdb/dedup_db.h"

namespace obd::dedupdb {

/// A lease is a lock on one byte of the file DATABASE-leases; which one, a hash of its name says (62 bits:
/// that two names share a byte may be neglected, and would only make them wait for one another). The lock
/// belongs to an open file description of its own: so threads exclude each other, and a process's death
/// releases it. Children made by fork() without exec would share it.
std::unique_ptr<Lease> acquire_file_lease(const std::filesystem::path& database, const std::string& name,
                                          bool wait, const std::stop_token& stop);

}  // namespace obd::dedupdb
