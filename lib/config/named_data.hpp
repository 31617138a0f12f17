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

/// What one process finds out of a path of data, so that others need not search.
struct DataLook {
  std::string problem;  // why there is nothing to read; empty where there is something
  std::string example;  // what must be there: the file, the folder, of a pattern the first file
};

DataLook look_for_data(const std::string& path);

/// Why what another process found is not here; empty where it is.
std::string example_problem(const std::string& example);

/// Why a file cannot be read as often as is wanted ("No such file or directory", "is a pipe ...");
/// empty where it can.
std::string file_problem(const std::string& path);

}  // namespace koios
