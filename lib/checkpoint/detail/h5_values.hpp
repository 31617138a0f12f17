// Attributes, element types and small datasets of a file, between HDF5 and plain values.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/detail/h5_handle.hpp"
#include "checkpoint/head.hpp"
#include "checkpoint/saved_array.hpp"

namespace koios::h5 {

/// The type in the file: always little-endian.
Type file_type(FileType type);
/// The type of a dataset; UserError where it is none of ours.
FileType file_type_of(hid_t dataset);
std::vector<std::int64_t> shape_of(hid_t dataset);
/// [n], [n, k], ... ; a shape of no extents is a scalar.
Space space_of(const std::vector<std::int64_t>& shape);

void write_attribute(hid_t object, const std::string& name, const AttributeValue& value);
void write_attributes(hid_t object, const Attributes& attributes);
/// Integers, reals and strings; attributes of other types are passed over.
Attributes read_attributes(hid_t object);

/// The attributes `checksum` and `dtype` of a dataset.
void create_checksum(hid_t dataset, FileType type, std::uint64_t checksum);
void set_checksum(hid_t dataset, std::uint64_t checksum);
std::uint64_t read_checksum(hid_t dataset);

void write_small_array(hid_t file, const SmallArray& array);
/// UserError where the values do not have the checksum.
SmallArray read_small_array(hid_t file, const std::string& name);

}  // namespace koios::h5
