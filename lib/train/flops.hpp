// Floating-point operations of training, and the peak rate of known devices.
// ref: Chowdhery et al. 2022 (PaLM), appendix B.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/model_spec.hpp"

namespace koios {

/// What of the attention matrix counts: all of it, as most programs report, or the half that a
/// causal model needs.
enum class AttentionCount { full, causal };

/// 6 N + 12 L D T (causal: 6 L D T), forward and backward, no recomputation; N leaves the input
/// embedding out (a look-up does no products).
double flops_per_token(const ModelSpec& model, std::int64_t seq_len,
                       AttentionCount count = AttentionCount::full);
/// What computing does of it, causal: a block, and the head with the final norm.
double block_flops_per_token(const ModelSpec& model, std::int64_t seq_len);
double head_flops_per_token(const ModelSpec& model);

/// Dense bf16 FLOP/s of a device by its name as the driver gives it; nothing for an unknown one.
std::optional<double> peak_flops(std::string_view device_name);

/// One line for the log: what mfu(%) is a share of, and what it counts.
std::string describe_flops(const ModelSpec& model, std::int64_t seq_len,
                           std::string_view device_name);

}  // namespace koios
