#include "app/versions.hpp"

#include <mpi.h>

#include <array>

#include "core/error.hpp"
#include "kernels/math_versions.hpp"
#include "metrics/build_info.hpp"
#include "runtime/device.hpp"

namespace koios {

std::vector<std::pair<std::string, std::string>> library_versions() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> mpi{};
  int length = 0;
  MPI_Get_library_version(mpi.data(), &length);
  std::string mpi_text(mpi.data(), static_cast<std::size_t>(length));
  mpi_text = mpi_text.substr(0, mpi_text.find(','));
  std::vector<std::pair<std::string, std::string>> versions = {
      {"MPI", mpi_text},
      {"Kokkos", kokkos_version()},
      {"inih", KOIOS_INIH_VERSION},
      {"SentencePiece", KOIOS_SENTENCEPIECE_VERSION}};
  for (auto& math : math_library_versions()) versions.push_back(std::move(math));
  return versions;
}

std::string version_text() {
  std::string text = cat("koios ", build_info::version(), " (", build_info::git_commit(), ", ",
                         build_info::backend(), " build, ", build_info::compiler(), ", ",
                         build_info::build_type(), ")\n");
  for (const auto& [name, version] : library_versions()) text += cat(name, " ", version, "\n");
  return text;
}

}  // namespace koios
