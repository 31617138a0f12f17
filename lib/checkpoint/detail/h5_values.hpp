// Attributes, element types and small datasets of a file, between HDF5 and plain values.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/detail/h5_handle.hpp"
#include "checkpoint/detail/structure.hpp"

namespace koios::h5 {

/// The type in the file: always little-endian.
Type file_type(DType type);

/// What a dataset is, once it is known to be one that Koios writes: its values in one piece inside
/// of the file, of a known type, and no more of them than the file has room for. UserError, which
/// names the dataset, where it is anything else. Reads no values, and no checksum.
checkpoint::StoredArray stored_array(hid_t dataset, const std::string& name,
                                     std::int64_t file_bytes);
/// Where the values of a dataset that has some begin in the file.
std::int64_t offset_of(hid_t dataset, const std::string& name);

/// The name, as people write it, of each dataset of the file, sorted. UserError where the file has
/// anything but groups and datasets of its own: links of other kinds, depth, or number.
std::vector<std::string> dataset_names(hid_t file);
/// [n], [n, k], ... ; a shape of no extents is a scalar.
Space space_of(const std::vector<std::int64_t>& shape);

void write_attributes(hid_t object, const Attributes& attributes);
/// Single integers, reals and strings; others are passed over unread. UserError where the
/// attributes take more room than any of a run.
Attributes read_attributes(hid_t object);

/// The attributes `checksum` and `dtype` of a dataset.
void create_checksum(hid_t dataset, DType type, std::uint64_t checksum);
void set_checksum(hid_t dataset, std::uint64_t checksum);
std::uint64_t read_checksum(hid_t dataset, const std::string& name);

void write_small_array(hid_t file, const SmallArray& array);
/// UserError where the values do not have the checksum.
SmallArray read_small_array(hid_t file, const std::string& name, std::int64_t file_bytes);

}  // namespace koios::h5
