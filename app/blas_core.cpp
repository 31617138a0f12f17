#include "app/blas_core.hpp"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

extern "C" __attribute__((weak)) char* openblas_get_corename();

namespace koios {

void restart_with_fast_blas(char** argv) {
  constexpr const char* kVariable = "OPENBLAS_CORETYPE";
  if (openblas_get_corename == nullptr || std::getenv(kVariable) != nullptr) return;
  if (std::string_view(openblas_get_corename()) != "Prescott") return;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx512 && !avx2) return;
  setenv(kVariable, avx512 ? "SkylakeX" : "Haswell", 1);
  execv("/proc/self/exe", argv);  // returns only where that is forbidden: slow, but right
}

}  // namespace koios
