#include "kernels/math_versions.hpp"

#include "kernels/detail/math_impl.hpp"

// OpenBLAS tells its version; other libraries that stand in for it do not.
extern "C" __attribute__((weak)) char* openblas_get_config();

namespace koios {

std::vector<std::pair<std::string, std::string>> math_library_versions() {
  std::string blas = "version not known";
  if (openblas_get_config != nullptr) blas = openblas_get_config();
  std::vector<std::pair<std::string, std::string>> versions{{"BLAS", blas}};
  for (auto& version : detail::cuda_math_versions()) versions.push_back(std::move(version));
  return versions;
}

}  // namespace koios
