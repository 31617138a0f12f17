// dataset_path to files: a file, a folder or a glob.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/bad_data.hpp"
#include "data/record_format.hpp"
#include "runtime/rank_group.hpp"

namespace koios {

/// Which part of a dataset that is published with a part for validation.
enum class DataSplit { training, validation };

/// The files, sorted by name, so that their order is the same on every machine. A folder gives the
/// files directly in it that the format wants, of c4 those of the part asked for. A folder from
/// which numbered files (name-00003-of-00008.ext) are missing, links to nothing, and empty files
/// are bad data: told to `bad`, or with null thrown. Text in subfolders, and files that are there
/// packed and unpacked, are noted. UserError where there are none, or one cannot
/// be read.
std::vector<std::string> find_dataset_files(const std::string& path, DataFormat format,
                                            DataSplit split = DataSplit::training,
                                            BadData* bad = nullptr);

/// What a dataset is on every rank: rank 0 finds the files and takes their fingerprint, so that a
/// folder of a million files is listed and opened once, and not once a rank.
struct DatasetFiles {
  std::vector<std::string> files;
  std::vector<std::int64_t> sizes;  // bytes of each
  /// As files_fingerprint() gives it, but another one where this rank sees other files under these
  /// names (it looks at some of them, spread over all): require_same_data() names such ranks.
  std::uint64_t fingerprint = 0;
};

/// As find_dataset_files(). Collective over the ranks, which `bad` of rank 0 speaks for and which
/// all get rank 0's UserError; null: of this process alone.
DatasetFiles find_shared_files(const std::string& path, DataFormat format, DataSplit split,
                               BadData* bad, const RankGroup* ranks);

/// 64 bits of names, sizes, first and last bytes, by which a run that goes on notices that its data
/// has changed. Folders do not count, so that data may move. `sizes` gets the bytes of each file.
std::uint64_t files_fingerprint(const std::vector<std::string>& files,
                                std::vector<std::int64_t>* sizes = nullptr);

}  // namespace koios
