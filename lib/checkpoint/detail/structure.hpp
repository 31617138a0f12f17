// The file without the values of its large arrays: one process makes it, and reads it back, with
// HDF5's serial driver. It tells where in the file each array lies.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/head.hpp"
#include "checkpoint/saved_array.hpp"

namespace koios::checkpoint {

/// A large array as the file has it: contiguous, in row-major order, from byte `offset` on.
struct StoredArray {
  std::string name;
  DType type = DType::float32;
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;
  std::uint64_t checksum = 0;

  std::int64_t size() const;
};

struct Structure {
  CheckpointHead head;
  std::vector<StoredArray> arrays;  // sorted by name

  /// UserError where there is none of that name.
  const StoredArray& find(const std::string& name) const;
};

/// For handing it from rank to rank, bit for bit: two structures are the same where these are.
std::string to_text(const Structure& structure);
Structure structure_from_text(const std::string& text);

/// "1.10.8", of the library in use.
std::string hdf5_version();

/// No file of this content is larger.
std::int64_t largest_size(const Structure& wanted, std::int64_t alignment);
/// Makes the file, where there must be room for HDF5 to write: everything but the large arrays'
/// values, their space allocated, never filled, and their checksums zero. Returns it with the
/// offsets. alignment: of large arrays, in bytes.
Structure create_file(const std::filesystem::path& path, Structure wanted, std::int64_t alignment);
/// Puts the checksums of the large arrays in.
void write_checksums(const std::filesystem::path& path, const std::vector<StoredArray>& arrays);
/// Reads and verifies all but the values of large arrays.
Structure read_file(const std::filesystem::path& path);

}  // namespace koios::checkpoint
