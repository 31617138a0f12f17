#include "checkpoint/detail/h5_values.hpp"

#include "checkpoint/checksum.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios::h5 {
namespace {

constexpr const char* kChecksum = "checksum";

/// IEEE-like with an implied leading bit: `exponent_bits` below the sign, then the mantissa.
Type small_float(int exponent_bits) {
  const auto exponent = static_cast<std::size_t>(exponent_bits);
  const std::size_t mantissa = 15 - exponent;
  Type type(check(H5Tcopy(H5T_IEEE_F32LE), "H5Tcopy"));
  check(H5Tset_fields(type.get(), 15, mantissa, exponent, 0, mantissa), "H5Tset_fields");
  check(H5Tset_precision(type.get(), 16), "H5Tset_precision");
  check(H5Tset_size(type.get(), 2), "H5Tset_size");
  check(H5Tset_ebias(type.get(), (std::size_t{1} << (exponent - 1)) - 1), "H5Tset_ebias");
  return type;
}

Type text_type(std::size_t length) {
  Type type(check(H5Tcopy(H5T_C_S1), "H5Tcopy"));
  check(H5Tset_size(type.get(), length), "H5Tset_size");
  check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "H5Tset_cset");
  return type;
}

void create_attribute(hid_t object, const std::string& name, hid_t file_type, hid_t memory_type,
                      const void* value) {
  const Space scalar(check(H5Screate(H5S_SCALAR), "H5Screate"));
  const Attribute attribute(
      check(H5Acreate2(object, name.c_str(), file_type, scalar.get(), H5P_DEFAULT, H5P_DEFAULT),
            "H5Acreate2"));
  check(H5Awrite(attribute.get(), memory_type, value), "H5Awrite");
}

AttributeValue read_text(hid_t attribute, hid_t type) {
  std::string text(H5Tget_size(type), '\0');
  check(H5Aread(attribute, type, text.data()), "H5Aread");
  return std::string(text.c_str());
}

template <class T>
T read_number(hid_t attribute, hid_t memory_type) {
  T value{};
  check(H5Aread(attribute, memory_type, &value), "H5Aread");
  return value;
}

}  // namespace

Type file_type(FileType type) {
  switch (type) {
    case FileType::float32:
      return Type(check(H5Tcopy(H5T_IEEE_F32LE), "H5Tcopy"));
    case FileType::float64:
      return Type(check(H5Tcopy(H5T_IEEE_F64LE), "H5Tcopy"));
    case FileType::int64:
      return Type(check(H5Tcopy(H5T_STD_I64LE), "H5Tcopy"));
    case FileType::float16:
      return small_float(5);
    case FileType::bfloat16:
      return small_float(8);
  }
  KOIOS_REQUIRE(false, "unknown type");
}

FileType file_type_of(hid_t dataset) {
  const Type found(check(H5Dget_type(dataset), "H5Dget_type"));
  for (const FileType type : {FileType::float32, FileType::float64, FileType::int64,
                              FileType::float16, FileType::bfloat16}) {
    if (check(H5Tequal(found.get(), file_type(type).get()), "H5Tequal") > 0) return type;
  }
  throw UserError("a dataset has an element type that Koios does not write");
}

std::vector<std::int64_t> shape_of(hid_t dataset) {
  const Space space(check(H5Dget_space(dataset), "H5Dget_space"));
  const int rank = check(H5Sget_simple_extent_ndims(space.get()), "H5Sget_simple_extent_ndims");
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  check(H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr),
        "H5Sget_simple_extent_dims");
  return {extents.begin(), extents.end()};
}

Space space_of(const std::vector<std::int64_t>& shape) {
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  return Space(check(H5Screate_simple(narrow<int>(shape.size()), extents.data(), nullptr),
                     "H5Screate_simple"));
}

void write_attribute(hid_t object, const std::string& name, const AttributeValue& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    create_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, integer);
  } else if (const auto* real = std::get_if<double>(&value)) {
    create_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, real);
  } else {
    const auto& text = std::get<std::string>(value);
    const Type type = text_type(text.size() + 1);
    create_attribute(object, name, type.get(), type.get(), text.c_str());
  }
}

void write_attributes(hid_t object, const Attributes& attributes) {
  for (const auto& [name, value] : attributes) write_attribute(object, name, value);
}

Attributes read_attributes(hid_t object) {
  std::vector<std::string> names;
  const auto add = [](hid_t /*object*/, const char* name, const H5A_info_t* /*info*/,
                      void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  check(H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, add, &names), "H5Aiterate2");
  Attributes attributes;
  for (const std::string& name : names) {
    const Attribute attribute(check(H5Aopen(object, name.c_str(), H5P_DEFAULT), "H5Aopen"));
    const Type type(check(H5Aget_type(attribute.get()), "H5Aget_type"));
    const bool is_fixed = check(H5Tis_variable_str(type.get()), "H5Tis_variable_str") == 0;
    switch (H5Tget_class(type.get())) {
      case H5T_INTEGER:
        attributes[name] = read_number<std::int64_t>(attribute.get(), H5T_NATIVE_INT64);
        break;
      case H5T_FLOAT:
        attributes[name] = read_number<double>(attribute.get(), H5T_NATIVE_DOUBLE);
        break;
      case H5T_STRING:
        if (is_fixed) attributes[name] = read_text(attribute.get(), type.get());
        break;
      default:
        break;
    }
  }
  return attributes;
}

void create_checksum(hid_t dataset, FileType type, std::uint64_t checksum) {
  create_attribute(dataset, kChecksum, H5T_STD_U64LE, H5T_NATIVE_UINT64, &checksum);
  write_attribute(dataset, "dtype", std::string(to_string(type)));
}

void set_checksum(hid_t dataset, std::uint64_t checksum) {
  const Attribute attribute(check(H5Aopen(dataset, kChecksum, H5P_DEFAULT), "H5Aopen"));
  check(H5Awrite(attribute.get(), H5T_NATIVE_UINT64, &checksum), "H5Awrite");
}

std::uint64_t read_checksum(hid_t dataset) {
  const Attribute attribute(check(H5Aopen(dataset, kChecksum, H5P_DEFAULT), "H5Aopen"));
  return read_number<std::uint64_t>(attribute.get(), H5T_NATIVE_UINT64);
}

void write_small_array(hid_t file, const SmallArray& array) {
  const bool is_real = std::holds_alternative<std::vector<double>>(array.values);
  const FileType type = is_real ? FileType::float64 : FileType::int64;
  const void* values =
      is_real ? static_cast<const void*>(std::get<std::vector<double>>(array.values).data())
              : std::get<std::vector<std::int64_t>>(array.values).data();
  const Space space = space_of(array.shape);
  const Type stored = file_type(type);
  const Dataset dataset(check(H5Dcreate2(file, array.name.c_str(), stored.get(), space.get(),
                                         H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                              cat("H5Dcreate2(", array.name, ")").c_str()));
  const hid_t native = is_real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64;
  check(H5Dwrite(dataset.get(), native, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), "H5Dwrite");
  std::int64_t count = 1;
  for (const std::int64_t extent : array.shape) count *= extent;
  create_checksum(dataset.get(), type, checksum(values, 8, 0, count));
}

SmallArray read_small_array(hid_t file, const std::string& name) {
  const Dataset dataset(check(H5Dopen2(file, name.c_str(), H5P_DEFAULT), "H5Dopen2"));
  SmallArray array{name, shape_of(dataset.get()), {}};
  std::int64_t count = 1;
  for (const std::int64_t extent : array.shape) count *= extent;
  void* values = nullptr;
  const FileType type = file_type_of(dataset.get());
  if (type == FileType::float64) {
    values = array.values.emplace<std::vector<double>>(static_cast<std::size_t>(count)).data();
  } else if (type == FileType::int64) {
    values =
        array.values.emplace<std::vector<std::int64_t>>(static_cast<std::size_t>(count)).data();
  } else {
    throw UserError(cat("/", name, " is neither int64 nor float64"));
  }
  const hid_t native = type == FileType::float64 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64;
  check(H5Dread(dataset.get(), native, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), "H5Dread");
  if (checksum(values, 8, 0, count) != read_checksum(dataset.get())) {
    throw UserError(cat("the values of /", name, " do not have their checksum"));
  }
  return array;
}

}  // namespace koios::h5
