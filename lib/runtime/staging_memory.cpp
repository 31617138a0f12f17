#include "runtime/staging_memory.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "core/error.hpp"
#include "core/free_memory.hpp"
#include "core/integers.hpp"
#include "runtime/detail/cuda.hpp"

namespace koios {
namespace {

constexpr std::int64_t kHugePage = std::int64_t{2} << 20;

}  // namespace

StagingMemory::StagingMemory(Backend backend, std::int64_t bytes)
    : backend_(backend), bytes_(round_up(bytes, kHugePage)) {
  const auto size = static_cast<std::size_t>(bytes_);
  data_ = static_cast<std::byte*>(std::aligned_alloc(static_cast<std::size_t>(kHugePage), size));
  if (data_ == nullptr) {
    const FreeMemory free = free_process_memory();
    throw UserError(cat("no room for ", bytes_ >> 20, " MiB in which a save is prepared: ",
                        free.bytes >> 20, " MiB of ", free.of, " are free"));
  }
  madvise(data_, size, MADV_HUGEPAGE);  // a hint: failure is harmless
  std::memset(data_, 0, size);
}

StagingMemory::~StagingMemory() {
  if (is_pinned_) cuda::unpin(data_);
  std::free(data_);
}

void StagingMemory::pin() {
  if (backend_ == Backend::host || is_pinned_) return;
  cuda::pin(data_, bytes_);
  is_pinned_ = true;
}

}  // namespace koios
