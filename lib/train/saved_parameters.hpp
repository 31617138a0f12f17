// A flat shard of parameters or moments as the arrays of a checkpoint.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/saved_array.hpp"
#include "core/ref.hpp"
#include "shard/layout.hpp"

namespace koios {

/// This rank's slice of every parameter, under `prefix` and its name, where it lies in `values`.
std::vector<SavedArray> saved_parameters(const ShardLayout& layout, const std::string& prefix,
                                         DType type, const AnyRef& values);

}  // namespace koios
