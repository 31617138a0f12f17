#include "kernels/math_versions.hpp"

#include "kernels/detail/math_impl.hpp"

namespace koios {

std::vector<std::pair<std::string, std::string>> math_library_versions() {
  return detail::cuda_math_versions();
}

}  // namespace koios
