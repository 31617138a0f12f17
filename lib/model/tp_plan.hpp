// Which way each parameter is split over the ranks of a tensor-parallel group: one table.
// "Rows" are rows of the stored [out, in] weight, so outputs of the layer; "columns" its inputs.
// ref: Shoeybi et al. 2019 (Megatron-LM); Korthikanti et al. 2022 for the sequence-sharded norms.
#pragma once

#include <string_view>

#include "shard/layout.hpp"

namespace koios {

/// Of the parameter with Meta's name: layers.0.attention.wq.weight.
Split tensor_split(std::string_view parameter);

}  // namespace koios
