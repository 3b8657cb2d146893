#pragma once

#include <memory>

namespace obd {

/// Deleter of a C library's handle: `Function` frees it, and its result, if any, is of no interest.
template <auto Function>
struct Free {
  template <class T>
  void operator()(T* handle) const noexcept {
    static_cast<void>(Function(handle));
  }
};

/// Owns a handle of a C library.
template <class T, auto Function>
using CHandle = std::unique_ptr<T, Free<Function>>;

}  // namespace obd
