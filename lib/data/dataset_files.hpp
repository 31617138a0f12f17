// dataset_path to files: a file, a folder or a glob.
#pragma once

#include <string>
#include <vector>

#include "data/record_format.hpp"

namespace koios {

/// The files, sorted by name, so that their order is the same on every machine. A folder gives the
/// files directly in it that bear an extension of the format. UserError where there are none, or
/// one cannot be read or is compressed.
std::vector<std::string> find_dataset_files(const std::string& path, DataFormat format);

}  // namespace koios
