// data_files.txt in the run folder: which files the run reads, one a line with a fingerprint and a
// size, so that a later start in the same folder can name those that have changed since.
#pragma once

#include "data/data_options.hpp"
#include "metrics/run_folder.hpp"

namespace koios {

/// Rank 0: warns of files of the last start that have changed or are gone, and writes the list
/// anew.
void note_data_files(const RunFolder& folder, const DataOptions& options);

}  // namespace koios
