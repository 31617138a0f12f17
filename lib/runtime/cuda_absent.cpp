// The host build's side of detail/cuda.hpp: every request for a GPU is a mistake of the user's.
#include "core/error.hpp"
#include "runtime/detail/cuda.hpp"

namespace koios::cuda {
namespace {

[[noreturn]] void no_cuda() {
  throw UserError(
      "this is the host build, it has no CUDA: set job/backend = host, or build with "
      "cmake --preset cuda");
}

}  // namespace

bool is_built_in() { return false; }
int count_devices() { return 0; }
std::string gpu_problem() { no_cuda(); }
DeviceInfo open_device(int /*index*/) { no_cuda(); }
void use_device(int /*index*/) { no_cuda(); }
MemoryInfo memory_info() { no_cuda(); }
void* allocate_zeroed(std::int64_t /*bytes*/) { no_cuda(); }
void deallocate(void* /*data*/) noexcept {}
void* allocate_pinned(std::int64_t /*bytes*/) { no_cuda(); }
void deallocate_pinned(void* /*data*/) noexcept {}
void pin(void* /*data*/, std::int64_t /*bytes*/) { no_cuda(); }
void unpin(void* /*data*/) noexcept {}
void copy(const Stream& /*stream*/, void* /*dst*/, const void* /*src*/, std::int64_t /*bytes*/) {
  no_cuda();
}
void fill_zero(const Stream& /*stream*/, void* /*dst*/, std::int64_t /*bytes*/) { no_cuda(); }
std::shared_ptr<detail::StreamImpl> make_stream(int /*priority*/) { no_cuda(); }
std::unique_ptr<detail::EventImpl> make_event(bool /*timed*/) { no_cuda(); }
void push_range(const char* /*name*/) {}
void pop_range() {}

}  // namespace koios::cuda
