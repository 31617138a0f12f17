#include "golden_file.hpp"

#include "core/error.hpp"

namespace koios::testing {
namespace {

void close_attribute(hid_t id) { H5Aclose(id); }
void close_dataset(hid_t id) { H5Dclose(id); }
void close_space(hid_t id) { H5Sclose(id); }
void close_type(hid_t id) { H5Tclose(id); }
using Attribute = Handle<hid_t, &close_attribute, H5I_INVALID_HID>;
using Dataset = Handle<hid_t, &close_dataset, H5I_INVALID_HID>;
using Space = Handle<hid_t, &close_space, H5I_INVALID_HID>;
using Type = Handle<hid_t, &close_type, H5I_INVALID_HID>;

Attribute open_attribute(hid_t object, const std::string& name) {
  Attribute a(H5Aopen(object, name.c_str(), H5P_DEFAULT));
  KOIOS_REQUIRE(a.get() >= 0, "no attribute ", name);
  return a;
}

Dataset open_dataset(hid_t file, const std::string& name) {
  Dataset d(H5Dopen2(file, name.c_str(), H5P_DEFAULT));
  KOIOS_REQUIRE(d.get() >= 0, "no dataset ", name);
  return d;
}

template <class T>
T read_scalar(hid_t object, const std::string& name, hid_t memory_type) {
  const Attribute a = open_attribute(object, name);
  T value{};
  KOIOS_REQUIRE(H5Aread(a.get(), memory_type, &value) >= 0, name);
  return value;
}

template <class T>
std::vector<T> read_all(hid_t file, const std::string& name, hid_t memory_type) {
  const Dataset d = open_dataset(file, name);
  const Space space(H5Dget_space(d.get()));
  std::vector<T> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space.get())));
  KOIOS_REQUIRE(H5Dread(d.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0,
                name);
  return values;
}

}  // namespace

GoldenFile::GoldenFile(const std::string& path)
    : file_(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)) {
  KOIOS_REQUIRE(file_.get() >= 0, "cannot open ", path);
}

std::int64_t GoldenFile::integer(const std::string& attribute) const {
  return read_scalar<std::int64_t>(file_.get(), attribute, H5T_NATIVE_INT64);
}

double GoldenFile::real(const std::string& attribute) const {
  return read_scalar<double>(file_.get(), attribute, H5T_NATIVE_DOUBLE);
}

std::string GoldenFile::text(const std::string& attribute) const {
  const Attribute a = open_attribute(file_.get(), attribute);
  const Type type(H5Aget_type(a.get()));
  std::string value(H5Tget_size(type.get()), '\0');
  KOIOS_REQUIRE(H5Aread(a.get(), type.get(), value.data()) >= 0, attribute);
  return value.c_str();
}

std::vector<double> GoldenFile::reals(const std::string& dataset) const {
  return read_all<double>(file_.get(), dataset, H5T_NATIVE_DOUBLE);
}

std::vector<std::int32_t> GoldenFile::integers(const std::string& dataset) const {
  return read_all<std::int32_t>(file_.get(), dataset, H5T_NATIVE_INT32);
}

double GoldenFile::fp32_rel_diff(const std::string& dataset) const {
  return read_scalar<double>(open_dataset(file_.get(), dataset).get(), "fp32_rel_diff",
                             H5T_NATIVE_DOUBLE);
}

}  // namespace koios::testing
