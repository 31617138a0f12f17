#include "checkpoint/detail/structure.hpp"

#include <algorithm>
#include <utility>

#include "checkpoint/detail/h5_values.hpp"
#include "checkpoint/detail/posix_file.hpp"
#include "core/error.hpp"
#include "core/file_kind.hpp"

namespace koios::checkpoint {
namespace {

namespace fs = std::filesystem;
using h5::check;

constexpr const char* kTrainState = "train_state";
/// Smaller objects are not aligned.
constexpr std::int64_t kAlignedFrom = 64 * 1024;
/// A dataset's header, its attributes and its entry in the group; measured about 700.
constexpr std::int64_t kHeaderBytes = 2048;
/// Groups, attributes of the file, and what HDF5 takes in blocks.
constexpr std::int64_t kStructureBytes = std::int64_t{256} << 10;

h5::PropertyList file_access() {
  h5::PropertyList access(check(H5Pcreate(H5P_FILE_ACCESS), "H5Pcreate"));
  // The formats of 1.10 put a checksum on every block of metadata.
  check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110),
        "H5Pset_libver_bounds");
#if H5_VERSION_GE(1, 10, 7)
  // The run folder is locked as a whole; file systems without locks must do.
  check(H5Pset_file_locking(access.get(), false, true), "H5Pset_file_locking");
#endif
  return access;
}

h5::File open(const fs::path& path, unsigned mode) {
  return h5::File(check(H5Fopen(path.c_str(), mode, file_access().get()), "H5Fopen"));
}

/// Contiguous, allocated when the file is made, never filled with zeros first.
h5::PropertyList large_array() {
  h5::PropertyList creation(check(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate"));
  check(H5Pset_layout(creation.get(), H5D_CONTIGUOUS), "H5Pset_layout");
  check(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), "H5Pset_alloc_time");
  check(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), "H5Pset_fill_time");
  return creation;
}

void make_groups(hid_t file, const Structure& wanted) {
  std::vector<std::string> names;
  const auto add_parents = [&](const std::string& name) {
    for (auto at = name.find('/'); at != std::string::npos; at = name.find('/', at + 1)) {
      names.push_back(name.substr(0, at));
    }
  };
  for (const StoredArray& array : wanted.arrays) add_parents(array.name);
  for (const SmallArray& array : wanted.head.arrays) add_parents(array.name);
  if (!wanted.head.train_state.empty()) names.emplace_back(kTrainState);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const std::string& name : names) {
    const h5::Group group(
        check(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), "H5Gcreate2"));
    if (name == kTrainState) h5::write_attributes(group.get(), wanted.head.train_state);
  }
}

bool is_small(const std::string& name) {
  return name.starts_with("train_state/") || name.starts_with("data_state/");
}

bool has_group(hid_t file, const char* name) {
  return check(H5Lexists(file, name, H5P_DEFAULT), "H5Lexists") > 0;
}

}  // namespace

std::string hdf5_version() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  check(H5get_libversion(&major, &minor, &release), "H5get_libversion");
  return cat(major, ".", minor, ".", release);
}

std::int64_t largest_size(const Structure& wanted, std::int64_t alignment) {
  std::int64_t bytes = kStructureBytes;
  for (const auto& [name, value] : wanted.head.root) {
    if (const auto* text = std::get_if<std::string>(&value)) bytes += std::ssize(*text);
  }
  for (const SmallArray& array : wanted.head.arrays) {
    bytes += std::visit([](const auto& v) { return std::ssize(v) * 8; }, array.values);
    bytes += kHeaderBytes;
  }
  for (const StoredArray& array : wanted.arrays) {
    const std::int64_t size = array.size() * size_of(array.type);
    bytes += size + kHeaderBytes + (size >= kAlignedFrom ? alignment : 0);
  }
  return bytes;
}

Structure create_file(const fs::path& path, Structure wanted, std::int64_t alignment) {
  const h5::Quiet quiet;
  std::sort(wanted.arrays.begin(), wanted.arrays.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  std::sort(wanted.head.arrays.begin(), wanted.head.arrays.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  const h5::PropertyList access = file_access();
  // HDF5's usual driver refuses paths of open files, which files in memory have.
  check(H5Pset_fapl_stdio(access.get()), "H5Pset_fapl_stdio");
  check(H5Pset_alignment(access.get(), static_cast<hsize_t>(kAlignedFrom),
                         static_cast<hsize_t>(alignment)),
        "H5Pset_alignment");
  const h5::File file(
      check(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), "H5Fcreate"));
  h5::write_attributes(file.get(), wanted.head.root);
  make_groups(file.get(), wanted);
  for (const SmallArray& array : wanted.head.arrays) h5::write_small_array(file.get(), array);
  const h5::PropertyList creation = large_array();
  for (StoredArray& array : wanted.arrays) {
    const h5::Dataset dataset(
        check(H5Dcreate2(file.get(), array.name.c_str(), h5::file_type(array.type).get(),
                         h5::space_of(array.shape).get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
              "H5Dcreate2"));
    h5::create_checksum(dataset.get(), array.type, 0);
    if (array.size() > 0) array.offset = h5::offset_of(dataset.get(), array.name);
  }
  check(H5Fflush(file.get(), H5F_SCOPE_GLOBAL), "H5Fflush");
  return wanted;
}

void write_checksums(const fs::path& path, const std::vector<StoredArray>& arrays) {
  const h5::Quiet quiet;
  const h5::File file = open(path, H5F_ACC_RDWR);
  for (const StoredArray& array : arrays) {
    const h5::Dataset dataset(
        check(H5Dopen2(file.get(), array.name.c_str(), H5P_DEFAULT), "H5Dopen2"));
    h5::set_checksum(dataset.get(), array.checksum);
  }
  check(H5Fflush(file.get(), H5F_SCOPE_GLOBAL), "H5Fflush");
}

Structure read_file(const fs::path& path) {
  const h5::Quiet quiet;
  const std::int64_t file_bytes = PosixFile(path, PosixFile::Mode::read).size();
  if (H5Fis_hdf5(path.c_str()) <= 0) {
    const std::string kind = file_kind(file_head(path));
    throw UserError(kind.empty() ? "it is no HDF5 file" : cat("it is ", kind));
  }
  const h5::File file = open(path, H5F_ACC_RDONLY);
  const std::vector<std::string> names = h5::dataset_names(file.get());  // before any is opened
  Structure structure;
  structure.head.root = h5::read_attributes(file.get());
  if (has_group(file.get(), kTrainState)) {
    const h5::Group group(check(H5Gopen2(file.get(), kTrainState, H5P_DEFAULT), "H5Gopen2"));
    structure.head.train_state = h5::read_attributes(group.get());
  }
  for (const std::string& name : names) {
    if (is_small(name)) {
      structure.head.arrays.push_back(h5::read_small_array(file.get(), name, file_bytes));
      continue;
    }
    const h5::Dataset dataset(check(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT), "H5Dopen2"));
    structure.arrays.push_back(h5::stored_array(dataset.get(), name, file_bytes));
    structure.arrays.back().checksum = h5::read_checksum(dataset.get(), name);
  }
  return structure;
}

}  // namespace koios::checkpoint
