// What a machine gives a training step, as few figures as predict one (train/step_time.hpp): those
// of GPUs that were measured, or of this machine, as `koios --self-test` leaves them in its report.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/choices.hpp"
#include "core/dtype.hpp"

namespace koios {

/// Of cuDNN's attention on H100 and H200; docs/planning.md.
inline constexpr double kGpuAttentionTokens = 1000;

/// 0 where it is not known. Operations in FLOP/s, bytes in bytes/s, as they are in the middle of a
/// step: a card that computes for long is held back by its power limit.
struct MachineRates {
  std::string name;
  DType compute = DType::bfloat16;  // the compute type that these are of
  double gemm = 0;                  // products in the compute type
  double gemm_tensorwise = 0;       // 8-bit ones, forward and backward together
  double gemm_rowwise = 0;
  double gemm_block = 0;
  // Of the half of the matrix that is not masked, for long sequences.
  double attention_forward = 0;
  double attention_backward = 0;
  double attention_tokens = 0;  // over T tokens attention runs at these rates / (1 + this / T)
  double memory = 0;            // read and written by kernels that are bound by it
  double copy = 0;              // received from other ranks of the node by copy engines
  double collective = 0;        // the same by NCCL's kernels, or by MPI on the host
  double between_nodes = 0;     // of each rank's link to other nodes
  double power_w = 0;           // of a GPU while it trains
  std::string source;           // where the figures come from

  /// Of products of blocks with that recipe; none: in the compute type.
  double gemm_of(Fp8Recipe recipe) const;
};

/// "h100" or "h200"; nothing for others.
std::optional<MachineRates> known_rates(std::string_view gpu);

/// The object "rates" of a JSON file, which self_test.json has and anyone may write: what a key
/// names replaces that of `base`. UserError where the file is not of that form.
MachineRates read_rates(const std::filesystem::path& file, MachineRates base = {});

/// As read_rates takes it, without what is not known; pretty, an object.
std::string rates_json(const MachineRates& rates);

/// The names of figures that a prediction cannot do without and that are not known.
std::vector<std::string> missing_rates(const MachineRates& rates, Fp8Recipe recipe);

}  // namespace koios
