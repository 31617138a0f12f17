#include "checkpoint/detail/h5_values.hpp"

#include <algorithm>
#include <optional>

#include "checkpoint/checksum.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios::h5 {
namespace {

constexpr const char* kChecksum = "checksum";
/// Far above what a run writes; the longest text is its deck.
constexpr hsize_t kMostAttributeBytes = hsize_t{16} << 20;
constexpr std::size_t kMostDatasets = 200000;
/// Groups above a dataset: /optimizer/exp_avg has two.
constexpr int kMostGroups = 2;
constexpr int kMostExtents = 8;

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

void write_attribute(hid_t object, const std::string& name, const AttributeValue& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    create_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, integer);
  } else {
    const auto& text = std::get<std::string>(value);
    const Type type = text_type(text.size() + 1);
    create_attribute(object, name, type.get(), type.get(), text.c_str());
  }
}

/// An attribute and what may be read from it.
struct OpenAttribute {
  Attribute id;
  Type type;
  H5T_class_t kind = H5T_NO_CLASS;
  bool is_single = false;
  std::size_t bytes = 0;
};

OpenAttribute open_attribute(hid_t object, const std::string& name) {
  OpenAttribute out;
  out.id = Attribute(check(H5Aopen(object, name.c_str(), H5P_DEFAULT), "H5Aopen"));
  out.type = Type(check(H5Aget_type(out.id.get()), "H5Aget_type"));
  out.kind = H5Tget_class(out.type.get());
  out.bytes = H5Tget_size(out.type.get());
  const Space space(check(H5Aget_space(out.id.get()), "H5Aget_space"));
  out.is_single = H5Sget_simple_extent_type(space.get()) == H5S_SCALAR;
  return out;
}

/// Whether it is one whole number of at most 64 bits.
bool is_integer(const OpenAttribute& attribute) {
  return attribute.is_single && attribute.kind == H5T_INTEGER && attribute.bytes <= 8;
}

bool is_text(const OpenAttribute& attribute) {
  return attribute.is_single && attribute.kind == H5T_STRING &&
         attribute.bytes <= kMostAttributeBytes &&
         check(H5Tis_variable_str(attribute.type.get()), "H5Tis_variable_str") == 0;
}

std::string read_text(const OpenAttribute& attribute) {
  std::string text(attribute.bytes, '\0');
  check(H5Aread(attribute.id.get(), attribute.type.get(), text.data()), "H5Aread");
  return text.c_str();
}

template <class T>
T read_number(const OpenAttribute& attribute, hid_t memory_type) {
  T value{};
  check(H5Aread(attribute.id.get(), memory_type, &value), "H5Aread");
  return value;
}

/// HDF5 reads an attribute whole when it opens it: their room is asked for before.
void require_small_attributes(hid_t object) {
  H5O_info_t info = {};
  check(H5Oget_info2(object, &info, H5O_INFO_HDR | H5O_INFO_META_SIZE), "H5Oget_info2");
  if (info.hdr.space.total > kMostAttributeBytes ||
      info.meta_size.attr.heap_size > kMostAttributeBytes) {
    throw UserError(cat("its attributes take more than ", kMostAttributeBytes >> 20,
                        " MiB, which no file of Koios does"));
  }
}

/// A link, by its name in the group.
struct FoundLink {
  std::string name;
  bool is_hard = false;
};

std::vector<FoundLink> links_of(hid_t group) {
  std::vector<FoundLink> links;
  const auto add = [](hid_t /*group*/, const char* name, const H5L_info_t* info,
                      void* out) -> herr_t {
    auto& found = *static_cast<std::vector<FoundLink>*>(out);
    if (found.size() >= kMostDatasets) return 1;
    found.push_back({name, info->type == H5L_TYPE_HARD});
    return 0;
  };
  if (check(H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, add, &links), "H5Literate") >
      0) {
    throw UserError(cat("it holds more than ", kMostDatasets, " objects"));
  }
  return links;
}

void add_datasets(hid_t group, const std::string& prefix, int groups_above,
                  std::vector<std::string>& names) {
  for (const FoundLink& link : links_of(group)) {
    const std::string name = prefix + link.name;
    if (!link.is_hard) {
      throw UserError(cat("/", name, " is a link to another place, and Koios follows none"));
    }
    H5O_info_t info = {};
    check(H5Oget_info_by_name2(group, link.name.c_str(), &info, H5O_INFO_BASIC, H5P_DEFAULT),
          "H5Oget_info_by_name2");
    if (info.type == H5O_TYPE_DATASET) {
      if (names.size() >= kMostDatasets) {
        throw UserError(cat("it holds more than ", kMostDatasets, " datasets"));
      }
      names.push_back(name);
    } else if (info.type == H5O_TYPE_GROUP) {
      if (groups_above == kMostGroups) {
        throw UserError(cat("/", name, " lies deeper than any group of Koios"));
      }
      const Group inner(check(H5Gopen2(group, link.name.c_str(), H5P_DEFAULT), "H5Gopen2"));
      add_datasets(inner.get(), name + "/", groups_above + 1, names);
    }
  }
}

DType file_type_of(hid_t dataset, const std::string& name) {
  const Type found(check(H5Dget_type(dataset), "H5Dget_type"));
  for (const DType type :
       {DType::float32, DType::float64, DType::int64, DType::float16, DType::bfloat16}) {
    if (check(H5Tequal(found.get(), file_type(type).get()), "H5Tequal") > 0) return type;
  }
  throw UserError(cat("/", name, " has an element type that Koios does not write"));
}

std::vector<std::int64_t> shape_of(hid_t dataset, const std::string& name) {
  const Space space(check(H5Dget_space(dataset), "H5Dget_space"));
  const int rank = check(H5Sget_simple_extent_ndims(space.get()), "H5Sget_simple_extent_ndims");
  if (H5Sget_simple_extent_type(space.get()) == H5S_NULL || rank > kMostExtents) {
    throw UserError(cat("/", name, " has no shape that Koios writes"));
  }
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  check(H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr),
        "H5Sget_simple_extent_dims");
  return {extents.begin(), extents.end()};
}

/// Of the values as they lie in the file; nothing where that is beyond any file.
std::optional<std::int64_t> bytes_of(const std::vector<std::int64_t>& shape, DType type) {
  std::int64_t product = size_of(type);
  for (const std::int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(product, extent, &product)) return std::nullopt;
  }
  return product;
}

bool is_in_one_piece(hid_t dataset) {
  const PropertyList creation(check(H5Dget_create_plist(dataset), "H5Dget_create_plist"));
  return H5Pget_layout(creation.get()) == H5D_CONTIGUOUS && H5Pget_nfilters(creation.get()) == 0 &&
         H5Pget_external_count(creation.get()) == 0;
}

}  // namespace

Type file_type(DType type) {
  switch (type) {
    case DType::float32:
      return Type(check(H5Tcopy(H5T_IEEE_F32LE), "H5Tcopy"));
    case DType::float64:
      return Type(check(H5Tcopy(H5T_IEEE_F64LE), "H5Tcopy"));
    case DType::int64:
      return Type(check(H5Tcopy(H5T_STD_I64LE), "H5Tcopy"));
    case DType::float16:
      return small_float(5);
    case DType::bfloat16:
      return small_float(8);
    default:
      KOIOS_REQUIRE(false, "values are not saved as ", to_string(type));
  }
}

std::int64_t offset_of(hid_t dataset, const std::string& name) {
  const haddr_t offset = H5Dget_offset(dataset);
  if (offset == HADDR_UNDEF) {
    throw UserError(cat("/", name, " has no contiguous place in the file"));
  }
  return static_cast<std::int64_t>(offset);
}

checkpoint::StoredArray stored_array(hid_t dataset, const std::string& name,
                                     std::int64_t file_bytes) {
  checkpoint::StoredArray array{name, file_type_of(dataset, name), shape_of(dataset, name), 0, 0};
  if (!is_in_one_piece(dataset)) {
    throw UserError(cat("/", name,
                        " has no contiguous place in the file: Koios neither compresses "
                        "nor cuts datasets, nor keeps them elsewhere"));
  }
  const std::optional<std::int64_t> bytes = bytes_of(array.shape, array.type);
  if (!bytes || *bytes > file_bytes) {
    throw UserError(
        cat("/", name, " is declared larger than the file: it is damaged or truncated"));
  }
  if (*bytes == 0) return array;
  array.offset = offset_of(dataset, name);
  if (array.offset < 0 || array.offset > file_bytes - *bytes) {
    throw UserError(cat("/", name, " lies beyond the end of the file: it is truncated"));
  }
  return array;
}

std::vector<std::string> dataset_names(hid_t file) {
  std::vector<std::string> names;
  add_datasets(file, "", 0, names);
  std::sort(names.begin(), names.end());
  return names;
}

Space space_of(const std::vector<std::int64_t>& shape) {
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  return Space(check(H5Screate_simple(narrow<int>(shape.size()), extents.data(), nullptr),
                     "H5Screate_simple"));
}

void write_attributes(hid_t object, const Attributes& attributes) {
  for (const auto& [name, value] : attributes) write_attribute(object, name, value);
}

Attributes read_attributes(hid_t object) {
  require_small_attributes(object);
  std::vector<std::string> names;
  const auto add = [](hid_t /*object*/, const char* name, const H5A_info_t* /*info*/,
                      void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  check(H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, add, &names), "H5Aiterate2");
  Attributes attributes;
  for (const std::string& name : names) {
    const OpenAttribute attribute = open_attribute(object, name);
    if (is_integer(attribute)) {
      attributes[name] = read_number<std::int64_t>(attribute, H5T_NATIVE_INT64);
    } else if (is_text(attribute)) {
      attributes[name] = read_text(attribute);
    }
  }
  return attributes;
}

void create_checksum(hid_t dataset, DType type, std::uint64_t checksum) {
  create_attribute(dataset, kChecksum, H5T_STD_U64LE, H5T_NATIVE_UINT64, &checksum);
  write_attribute(dataset, "dtype", std::string(to_string(type)));
}

void set_checksum(hid_t dataset, std::uint64_t checksum) {
  const Attribute attribute(check(H5Aopen(dataset, kChecksum, H5P_DEFAULT), "H5Aopen"));
  check(H5Awrite(attribute.get(), H5T_NATIVE_UINT64, &checksum), "H5Awrite");
}

std::uint64_t read_checksum(hid_t dataset, const std::string& name) {
  require_small_attributes(dataset);
  if (check(H5Aexists(dataset, kChecksum), "H5Aexists") == 0) {
    throw UserError(cat("/", name, " has no checksum"));
  }
  const OpenAttribute attribute = open_attribute(dataset, kChecksum);
  if (!is_integer(attribute)) {
    throw UserError(cat("the checksum of /", name, " is not a whole number"));
  }
  return read_number<std::uint64_t>(attribute, H5T_NATIVE_UINT64);
}

void write_small_array(hid_t file, const SmallArray& array) {
  const bool is_real = std::holds_alternative<std::vector<double>>(array.values);
  const DType type = is_real ? DType::float64 : DType::int64;
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
  const std::int64_t count = std::visit([](const auto& v) { return std::ssize(v); }, array.values);
  create_checksum(dataset.get(), type, checksum(values, 8, {0, count}));
}

SmallArray read_small_array(hid_t file, const std::string& name, std::int64_t file_bytes) {
  const Dataset dataset(check(H5Dopen2(file, name.c_str(), H5P_DEFAULT), "H5Dopen2"));
  const checkpoint::StoredArray stored = stored_array(dataset.get(), name, file_bytes);
  SmallArray array{name, stored.shape, {}};
  const auto count = static_cast<std::size_t>(stored.size());
  void* values = nullptr;
  if (stored.type == DType::float64) {
    values = array.values.emplace<std::vector<double>>(count).data();
  } else if (stored.type == DType::int64) {
    values = array.values.emplace<std::vector<std::int64_t>>(count).data();
  } else {
    throw UserError(cat("/", name, " is neither int64 nor float64"));
  }
  const hid_t native = stored.type == DType::float64 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64;
  check(H5Dread(dataset.get(), native, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), "H5Dread");
  if (checksum(values, 8, {0, stored.size()}) != read_checksum(dataset.get(), name)) {
    throw UserError(cat("the values of /", name, " do not have their checksum"));
  }
  return array;
}

}  // namespace koios::h5
