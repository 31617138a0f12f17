// Reads what tools/make_golden.py wrote: values of a tiny Llama 2 made by PyTorch in float64.
#pragma once

#include <hdf5.h>

#include <string>
#include <vector>

#include "runtime/handle.hpp"

namespace koios::testing {

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& path);

  std::int64_t integer(const std::string& attribute) const;
  double real(const std::string& attribute) const;
  std::string text(const std::string& attribute) const;
  /// A dataset, flattened and converted.
  std::vector<double> reals(const std::string& dataset) const;
  std::vector<std::int32_t> integers(const std::string& dataset) const;
  /// The attribute fp32_rel_diff of a dataset: how far PyTorch's own float32 is from float64.
  double fp32_rel_diff(const std::string& dataset) const;

 private:
  static void close_file(hid_t id) { H5Fclose(id); }
  Handle<hid_t, &GoldenFile::close_file, H5I_INVALID_HID> file_;
};

}  // namespace koios::testing
