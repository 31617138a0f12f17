// What a checkpoint file holds, as named slices of global arrays: this module knows neither model
// nor optimizer, and any split of an array into slices reads what any other split wrote.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/ref.hpp"
#include "core/slice.hpp"

namespace koios {

/// This rank's slice of one array: its values, row by row and contiguous, which may be in a
/// device's memory.
struct SavedArray {
  std::string name;             // in the file: model/layers.0.attention.wq.weight
  DType type = DType::float32;  // in the file
  bool is_vector = false;       // stored as [rows]
  std::int64_t rows = 0, cols = 1;
  Slice here = {};
  /// Of ranks that hold the same slice, one writes it and counts it in the checksum.
  bool is_owner = true;
  AnyRef values = {};  // as many, or null where nothing is read or written

  /// Of the whole array in the file.
  std::vector<std::int64_t> shape() const {
    return is_vector ? std::vector{rows} : std::vector{rows, cols};
  }
};

/// How the values of slices get to and from the host. The default is for slices in host memory.
class HostAccess {
 public:
  /// Most values in one call: few enough to be in a core's cache from one use to the next.
  static constexpr std::int64_t kBlock = std::int64_t{256} << 10;

  HostAccess() = default;
  HostAccess(const HostAccess&) = delete;
  HostAccess& operator=(const HostAccess&) = delete;
  virtual ~HostAccess() = default;

  /// The values on the host, as they are until the next call.
  virtual const void* fetch(const AnyRef& values) { return values.data; }
  /// Where on the host to put what is to be stored there next.
  virtual void* landing(const AnyRef& values) { return values.data; }
  /// Stores what was put into landing(values).
  virtual void store(const AnyRef& /*values*/) {}
};

}  // namespace koios
