// What this program was built from and with. build_info.cpp is written by write_build_info.cmake
// at every build, and changes only when its content does.
#pragma once

#include <string>

namespace koios::build_info {

std::string version();
/// Of the source tree when it was last built, "-dirty" if files had changed, "unknown" without git.
std::string git_commit();
std::string compiler();
std::string build_type();
std::string backend();

}  // namespace koios::build_info
