// The seam between runtime/ and CUDA, free of CUDA's types. cuda.cpp implements it in a CUDA build;
// in a host build cuda_absent.cpp says that there is none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/detail/stream_impl.hpp"
#include "runtime/device.hpp"
#include "runtime/stream.hpp"

namespace koios::cuda {

struct MemoryInfo {
  std::int64_t free_bytes = 0;
  std::int64_t total_bytes = 0;
};

bool is_built_in();

/// Usable GPUs; 0 without a driver.
int count_devices();
/// Why there is none, with what a user can do; "" where there is one.
std::string gpu_problem();
/// Makes GPU `index` the calling thread's. Throws UserError where there is none.
DeviceInfo open_device(int index);
void use_device(int index);

MemoryInfo memory_info();
void* allocate_zeroed(std::int64_t bytes);
void deallocate(void* data) noexcept;
void* allocate_pinned(std::int64_t bytes);
void deallocate_pinned(void* data) noexcept;
/// Pins memory that is there already.
void pin(void* data, std::int64_t bytes);
void unpin(void* data) noexcept;

void copy(const Stream& stream, void* dst, const void* src, std::int64_t bytes);
void fill_zero(const Stream& stream, void* dst, std::int64_t bytes);

std::shared_ptr<detail::StreamImpl> make_stream(int priority);
std::unique_ptr<detail::EventImpl> make_event(bool timed);

/// Nested ranges of the calling thread that Nsight Systems shows (NVTX); nothing in a host build.
void push_range(const char* name);
void pop_range();

}  // namespace koios::cuda
