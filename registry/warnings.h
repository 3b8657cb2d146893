#pragma once

#include "registry/transport.h"

namespace obd::registry {

/// Logs what a registry says in Warning headers of code 299 (distribution specification, "Warnings"): each
/// text once in this process, and only the first twenty: nobody reads more.
///
/// Threads: any.
void log_warnings(const HttpResponse& response);

}  // namespace obd::registry
