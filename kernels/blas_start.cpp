#include "kernels/blas_start.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>

extern "C" __attribute__((weak)) int openblas_get_num_threads();

namespace koios {

void keep_blas_threads_from_starting(char** argv) {
  constexpr const char* kThreads = "OPENBLAS_NUM_THREADS";
  rlimit limit{};
  const bool is_limited = ::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  const bool has_threads = openblas_get_num_threads != nullptr && openblas_get_num_threads() > 1;
  if (!is_limited || !has_threads || std::getenv(kThreads) != nullptr) return;
  if (::setenv(kThreads, "1", 0) == 0) ::execv("/proc/self/exe", argv);
}

}  // namespace koios
