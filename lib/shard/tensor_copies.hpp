// Parameters that all ranks of a tensor-parallel group hold alike (norm weights). Each rank saw
// only its rows of the sequence, so their gradients are sums yet to be formed: once a step, when
// the data-parallel ranks' parts have come together.
#pragma once

#include "comm/communicator.hpp"
#include "core/ref.hpp"
#include "shard/layout.hpp"

namespace koios {

/// comm: one grouped all-reduce over `tensor`, the tensor-parallel group.
void sum_tensor_copies(Stream& stream, const ShardLayout& layout, Ref<float, 1> gradient_shard,
                       Communicator& tensor);

}  // namespace koios
