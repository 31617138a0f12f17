// digest_probe FILE: one line for each dataset of an HDF5 file, its name, extents and FNV-1a of its
// values, read by HDF5 alone. Tests compare files by it: places in a file depend on more than
// values.
#include <hdf5.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace {

herr_t add_dataset(hid_t /*object*/, const char* name, const H5O_info_t* info, void* names) {
  if (info->type == H5O_TYPE_DATASET) {
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  }
  return 0;
}

/// False where HDF5 refuses.
bool print(hid_t file, const std::string& name) {
  const hid_t dataset = H5Dopen2(file, name.c_str(), H5P_DEFAULT);
  const hid_t type = H5Dget_type(dataset);
  const hid_t space = H5Dget_space(dataset);
  const auto count = static_cast<std::size_t>(H5Sget_simple_extent_npoints(space));
  std::vector<hsize_t> extents(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
  H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  std::vector<unsigned char> bytes(count * H5Tget_size(type));
  if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()) < 0) return false;
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3ULL;
  std::printf("%s", name.c_str());
  for (const hsize_t extent : extents)
    std::printf(" %llu", static_cast<unsigned long long>(extent));
  std::printf(" %zu %016llx\n", H5Tget_size(type), static_cast<unsigned long long>(hash));
  H5Sclose(space);
  H5Tclose(type);
  H5Dclose(dataset);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const hid_t file = H5Fopen(argv[1], H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file < 0) return 1;
  std::vector<std::string> names;
  H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_NATIVE, &add_dataset, &names, H5O_INFO_BASIC);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (!print(file, name)) return 1;
  }
  H5Fclose(file);
  return 0;
}
