// What a deck chooses and the libraries do: one enum for both.
#pragma once

namespace koios {

enum class Norm {
  rmsnorm,        // rounded before and after the weight
  fused_rmsnorm,  // rounded once
  layernorm,      // with a weight, without bias
  np_layernorm    // without parameters
};

enum class AttentionKind { automatic, cudnn, fallback };

enum class DataFormat { text, jsonl, c4, alpaca, openwebtext, tokens };

/// What a record that cannot be used does: end the run, or be left out.
enum class OnBadData { stop, skip };

/// How GPUs of one group exchange shards: NCCL's kernels, or each other's memory by copy engines,
/// which leave the multiprocessors to the computation but reach no other node.
enum class ShardTransport {
  automatic,  // copy engines where they reach all of the group
  copy_engine,
  nccl
};

/// How a checkpoint's arrays are written.
enum class WriteMethod {
  direct,        // each rank by itself, pwrite at the places of the arrays
  parallel_hdf5  // collective hyperslabs over MPI-IO
};

/// The order in which a stage takes micro-batches.
enum class ScheduleKind {
  one_f_one_b,  // Narayanan et al. 2019 (PipeDream-flush): forward and backward by turns
  interleaved,  // Narayanan et al. 2021: the same, in runs of units that are nearer to each other
  zero_bubble,  // Qi et al. 2023 (ZB-H1): backward_weight fills what 1F1B waits
  gpipe         // Huang et al. 2019: all forward, then all backward
};

/// How the operands of a product get their scales: one a tensor, one a row, or one for each 1 x 128
/// of activations and gradients and each 128 x 128 of weights.
enum class Fp8Recipe { none, tensorwise, rowwise, block };

}  // namespace koios
