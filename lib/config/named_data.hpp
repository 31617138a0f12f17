// The one rule for what a path of data names: what exists under the name is that, whatever
// characters it has; only else is it a glob pattern.
#pragma once

#include <string>
#include <vector>

namespace koios {

struct NamedData {
  bool is_folder = false;
  std::vector<std::string> files;   // a file: itself; a pattern: the regular files that fit
  std::vector<std::string> others;  // what fits the pattern and is neither file nor folder
  std::string problem;              // why there is nothing to read; empty where there is something
};

NamedData find_named_data(const std::string& path);

/// Why a file cannot be read as often as is wanted ("No such file or directory", "is a pipe ...");
/// empty where it can.
std::string file_problem(const std::string& path);

}  // namespace koios
