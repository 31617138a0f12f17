#include "runtime/copy.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "runtime/detail/cuda.hpp"

namespace koios {
namespace {

constexpr std::int64_t kHostAlignment = 4096;

}  // namespace

PinnedBuffer::PinnedBuffer(Backend backend, std::int64_t bytes) : backend_(backend), bytes_(bytes) {
  if (bytes == 0) return;
  if (backend == Backend::cuda) {
    data_ = cuda::allocate_pinned(bytes);
    return;
  }
  data_ =
      std::aligned_alloc(kHostAlignment, static_cast<std::size_t>(round_up(bytes, kHostAlignment)));
  if (data_ == nullptr) throw std::bad_alloc();
}

PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : backend_(other.backend_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(backend_, other.backend_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ == nullptr) return;
  if (backend_ == Backend::cuda) {
    cuda::deallocate_pinned(data_);
  } else {
    std::free(data_);
  }
}

void copy(Stream& stream, AnyRef dst, AnyRef src) {
  KOIOS_REQUIRE(dst.dtype == src.dtype && dst.count == src.count, "copy of ", src.count, " ",
                to_string(src.dtype), " to ", dst.count, " ", to_string(dst.dtype));
  if (dst.count == 0) return;
  if (stream.backend() == Backend::cuda) return cuda::copy(stream, dst.data, src.data, dst.bytes());
  stream.synchronize();
  std::memcpy(dst.data, src.data, static_cast<std::size_t>(dst.bytes()));
}

void fill_zero(Stream& stream, AnyRef dst) {
  if (dst.count == 0) return;
  if (stream.backend() == Backend::cuda) return cuda::fill_zero(stream, dst.data, dst.bytes());
  stream.synchronize();
  std::memset(dst.data, 0, static_cast<std::size_t>(dst.bytes()));
}

}  // namespace koios
