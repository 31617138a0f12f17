// Owners of HDF5's ids, and its refusals as exceptions with its own words.
#pragma once

#include <hdf5.h>

#include <source_location>

#include "runtime/handle.hpp"

namespace koios::h5 {

inline void close_attribute(hid_t id) { H5Aclose(id); }
inline void close_dataset(hid_t id) { H5Dclose(id); }
inline void close_file(hid_t id) { H5Fclose(id); }
inline void close_group(hid_t id) { H5Gclose(id); }
inline void close_list(hid_t id) { H5Pclose(id); }
inline void close_space(hid_t id) { H5Sclose(id); }
inline void close_type(hid_t id) { H5Tclose(id); }

using Attribute = Handle<hid_t, &close_attribute, H5I_INVALID_HID>;
using Dataset = Handle<hid_t, &close_dataset, H5I_INVALID_HID>;
using File = Handle<hid_t, &close_file, H5I_INVALID_HID>;
using Group = Handle<hid_t, &close_group, H5I_INVALID_HID>;
using PropertyList = Handle<hid_t, &close_list, H5I_INVALID_HID>;
using Space = Handle<hid_t, &close_space, H5I_INVALID_HID>;
using Type = Handle<hid_t, &close_type, H5I_INVALID_HID>;

/// Throws LibraryError with the deepest lines of HDF5's error stack.
[[noreturn]] void fail(const char* call, std::source_location where);

/// `result` of the HDF5 function `call`, which is negative where it failed.
template <class Result>
Result check(Result result, const char* call,
             std::source_location where = std::source_location::current()) {
  if (result < 0) fail(call, where);
  return result;
}

/// While it lives HDF5 prints nothing by itself.
class Quiet {
 public:
  Quiet() {
    H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
  ~Quiet() { H5Eset_auto2(H5E_DEFAULT, function_, data_); }

 private:
  H5E_auto2_t function_ = nullptr;
  void* data_ = nullptr;
};

}  // namespace koios::h5
