// Versions of the libraries behind GEMM and attention, for --version and provenance.json.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace koios {

std::vector<std::pair<std::string, std::string>> math_library_versions();

}  // namespace koios
