// Copies between memories, and pinned host buffers for those that must not wait.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// Host memory that CUDA can copy from and to without a staging pass; plain memory on the host.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(Backend backend, std::int64_t bytes);
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;
  ~PinnedBuffer();

  void* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  Backend backend_ = Backend::host;
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

/// Enqueues dst = src; either side may be host or device memory of the stream's backend.
void copy(Stream& stream, AnyRef dst, AnyRef src);
/// Enqueues dst = 0 (every element type's zero is all bits zero).
void fill_zero(Stream& stream, AnyRef dst);

}  // namespace koios
