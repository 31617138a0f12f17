// A move-only owner of a C library's handle: `using H5File = Handle<hid_t, &close_file, -1>`.
#pragma once

#include <utility>

namespace koios {

/// Calls Close(handle) once, unless the handle equals Empty. Close must not throw.
template <class H, auto Close, H Empty = H{}>
class Handle {
 public:
  Handle() = default;
  explicit Handle(H handle) : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, Empty)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, Empty);
    }
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { reset(); }

  H get() const { return handle_; }
  explicit operator bool() const { return handle_ != Empty; }
  void reset() {
    if (handle_ != Empty) Close(std::exchange(handle_, Empty));
  }

 private:
  H handle_ = Empty;
};

}  // namespace koios
