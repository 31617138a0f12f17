#include "runtime/arena.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/error.hpp"
#include "core/free_memory.hpp"
#include "core/integers.hpp"
#include "core/readable.hpp"
#include "core/unwinding.hpp"
#include "runtime/detail/cuda.hpp"

namespace koios {
namespace {

constexpr std::int64_t kHugePage = std::int64_t{2} << 20;

[[noreturn]] void throw_too_large(std::int64_t needed, const FreeMemory& free,
                                  const std::string& remedy) {
  throw UserError(cat("the memory plan needs ", gib(needed), " per rank, but only ",
                      gib(free.bytes), " of ", free.of, " is free: ", remedy));
}

/// Zeroed by the threads that will use it, so that its pages lie near them (first touch).
std::byte* allocate_host(std::int64_t bytes, const std::string& remedy) {
  const std::int64_t whole = round_up(bytes, kHugePage);
  auto* base = static_cast<std::byte*>(
      std::aligned_alloc(static_cast<std::size_t>(kHugePage), static_cast<std::size_t>(whole)));
  if (base == nullptr) throw_too_large(bytes, free_process_memory(), remedy);
  madvise(base, static_cast<std::size_t>(whole), MADV_HUGEPAGE);  // a hint: failure is harmless
#pragma omp parallel for schedule(static)
  for (std::int64_t at = 0; at < whole; at += kHugePage) {
    std::memset(base + at, 0, static_cast<std::size_t>(kHugePage));
  }
  return base;
}

/// Under an exception the host's memory stays as a GPU's does: MPI may still be told by other ranks
/// to write into it.
void deallocate(Backend backend, std::byte* base) {
  if (backend == Backend::cuda) {
    cuda::deallocate(base);
  } else if (!is_unwinding()) {
    std::free(base);
  }
}

}  // namespace

Arena Arena::planner(Backend backend) { return Arena(backend); }

Arena::Arena(Backend backend, const MemoryPlan& plan, const std::string& remedy)
    : backend_(backend), capacity_(std::max(plan.total_bytes, kAlignment)) {
  const FreeMemory free = backend == Backend::cuda
                              ? FreeMemory{cuda::memory_info().free_bytes, "the GPU"}
                              : free_host_memory();
  if (capacity_ > free.bytes) throw_too_large(capacity_, free, remedy);
  base_ = backend == Backend::cuda ? static_cast<std::byte*>(cuda::allocate_zeroed(capacity_))
                                   : allocate_host(capacity_, remedy);
}

Arena::Arena(Arena&& other) noexcept
    : backend_(other.backend_),
      base_(std::exchange(other.base_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      taken_(std::move(other.taken_)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(backend_, other.backend_);
  std::swap(base_, other.base_);
  std::swap(capacity_, other.capacity_);
  std::swap(taken_, other.taken_);
  return *this;
}

Arena::~Arena() {
  if (base_ != nullptr) deallocate(backend_, base_);
}

void* Arena::take_bytes(std::string_view label, std::int64_t bytes) {
  KOIOS_REQUIRE(bytes >= 0, label, ": ", bytes, " bytes");
  const std::int64_t start = taken_.total_bytes;
  const std::int64_t whole = round_up(bytes, kAlignment);
  KOIOS_REQUIRE(is_planner() || start + whole <= capacity_, label, " takes ", bytes,
                " bytes beyond the plan of ", capacity_);
  auto line = std::find_if(taken_.lines.begin(), taken_.lines.end(),
                           [&](const MemoryPlan::Line& l) { return l.label == label; });
  if (line == taken_.lines.end()) {
    line = taken_.lines.insert(line, {std::string(label), 0});
  }
  line->bytes += whole;
  taken_.total_bytes += whole;
  return is_planner() ? nullptr : base_ + start;
}

}  // namespace koios
