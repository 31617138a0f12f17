// What MPI's file I/O is made of.
#pragma once

#include <filesystem>
#include <string>

namespace koios::checkpoint {

/// "Open MPI v4.1.4, component ROMIO": who takes files in `folder`, asked by opening one for a
/// moment on this rank alone. UserError where none does.
std::string describe_mpi_io(const std::filesystem::path& folder);

}  // namespace koios::checkpoint
