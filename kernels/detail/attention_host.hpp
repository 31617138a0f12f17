// Attention of the host backend, called by its MathHandles::Impl.
#pragma once

#include <cstdint>

#include "kernels/detail/math_impl.hpp"

namespace koios::detail {

std::int64_t attention_host_workspace_bytes(const AttentionShape& shape);
void attention_host_forward(const AttentionCall& call);
void attention_host_backward(const AttentionCall& call);

}  // namespace koios::detail
