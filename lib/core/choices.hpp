// What a deck chooses and the libraries do: one enum for both, with the names.
#pragma once

#include "core/enum_names.hpp"

namespace koios {

enum class Norm {
  rmsnorm,        // rounded before and after the weight
  fused_rmsnorm,  // rounded once
  layernorm,      // with a weight, without bias
  np_layernorm    // without parameters
};
constexpr EnumTable<Norm, 4> names_of(Norm) {
  using enum Norm;
  return {{{rmsnorm, "rmsnorm"},
           {fused_rmsnorm, "fused_rmsnorm"},
           {layernorm, "layernorm"},
           {np_layernorm, "np_layernorm"}}};
}

enum class AttentionKind { automatic, cudnn, fallback };
constexpr EnumTable<AttentionKind, 3> names_of(AttentionKind) {
  using enum AttentionKind;
  return {{{automatic, "auto"}, {cudnn, "cudnn"}, {fallback, "fallback"}}};
}

enum class DataFormat { text, jsonl, c4, alpaca, openwebtext, tokens };
constexpr EnumTable<DataFormat, 6> names_of(DataFormat) {
  using enum DataFormat;
  return {{{text, "text"},
           {jsonl, "jsonl"},
           {alpaca, "alpaca"},
           {openwebtext, "openwebtext"},
           {c4, "c4"},
           {tokens, "tokens"}}};
}

/// What a record that cannot be used does: end the run, or be left out.
enum class OnBadData { stop, skip };
constexpr EnumTable<OnBadData, 2> names_of(OnBadData) {
  return {{{OnBadData::stop, "stop"}, {OnBadData::skip, "skip"}}};
}

/// How GPUs of one group exchange shards: NCCL's kernels, or each other's memory by copy engines,
/// which leave the multiprocessors to the computation but reach no other node.
enum class ShardTransport {
  automatic,  // copy engines where they reach all of the group
  copy_engine,
  nccl
};
constexpr EnumTable<ShardTransport, 3> names_of(ShardTransport) {
  using enum ShardTransport;
  return {{{automatic, "auto"}, {copy_engine, "copy_engine"}, {nccl, "nccl"}}};
}

/// How a checkpoint's arrays are written.
enum class WriteMethod {
  direct,        // each rank by itself, pwrite at the places of the arrays
  parallel_hdf5  // collective hyperslabs over MPI-IO
};
constexpr EnumTable<WriteMethod, 2> names_of(WriteMethod) {
  using enum WriteMethod;
  return {{{direct, "direct"}, {parallel_hdf5, "parallel_hdf5"}}};
}

/// The order in which a stage takes micro-batches.
enum class ScheduleKind {
  one_f_one_b,    // Narayanan et al. 2019 (PipeDream-flush): forward and backward by turns
  interleaved,    // Narayanan et al. 2021: the same, in runs of units that are nearer to each other
  zero_bubble,    // Qi et al. 2023 (ZB-H1): backward_weight fills what 1F1B waits
  zero_bubble_v,  // Qi et al. 2023 (ZB-V): the same, down and up again through the stages
  gpipe           // Huang et al. 2019: all forward, then all backward
};
constexpr EnumTable<ScheduleKind, 5> names_of(ScheduleKind) {
  using enum ScheduleKind;
  return {{{one_f_one_b, "1f1b"},
           {interleaved, "interleaved_1f1b"},
           {zero_bubble, "zero_bubble"},
           {zero_bubble_v, "zero_bubble_v"},
           {gpipe, "gpipe"}}};
}
/// Whether a stage forms the weights' gradients apart from the inputs', and later.
constexpr bool splits_backward(ScheduleKind kind) {
  return kind == ScheduleKind::zero_bubble || kind == ScheduleKind::zero_bubble_v;
}

/// How the operands of a product get their scales: one a tensor, one a row, or one for each 1 x 128
/// of activations and gradients and each 128 x 128 of weights.
enum class Fp8Recipe { none, tensorwise, rowwise, block };
/// dynamic is torchtitan's word for tensorwise.
constexpr EnumTable<Fp8Recipe, 5> names_of(Fp8Recipe) {
  using enum Fp8Recipe;
  return {{{none, ""},
           {tensorwise, "tensorwise"},
           {tensorwise, "dynamic"},
           {rowwise, "rowwise"},
           {block, "block"}}};
}

/// Which amax a scale is made of: the tensor's own one, or that of the step before.
enum class Fp8ScalesOf { current, previous };
constexpr EnumTable<Fp8ScalesOf, 2> names_of(Fp8ScalesOf) {
  using enum Fp8ScalesOf;
  return {{{current, "current"}, {previous, "previous"}}};
}

}  // namespace koios
