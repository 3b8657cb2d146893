#pragma once

#include <memory>

#include "registry/transport.h"

namespace obd::registry {

/// A curl handle with the connections that it keeps. One thread at a time.
class CurlLane {
 public:
  CurlLane();
  ~CurlLane();
  CurlLane(const CurlLane&) = delete;
  CurlLane& operator=(const CurlLane&) = delete;

  /// As Transport::exchange(). A lane whose run() threw is thrown away.
  HttpResponse run(const HttpRequest& request, const TransportOptions& options, const std::stop_token& stop);

 private:
  struct Handles;
  std::unique_ptr<Handles> handles_;
};

}  // namespace obd::registry
