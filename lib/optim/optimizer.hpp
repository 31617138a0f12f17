// Adam or AdamW over this rank's flat shard, one launch for all parameters (torchtitan decays
// every parameter, norms included, so nothing distinguishes them). Moments in bfloat16 are rounded
// at random (kernels/adamw.hpp), with draws that depend on the seed, the step and the element: the
// same on every mesh and after a restart.
#pragma once

#include <cstdint>
#include <vector>

#include "config/run_config.hpp"
#include "kernels/adamw.hpp"
#include "shard/parameters.hpp"

namespace koios {

class Optimizer {
 public:
  Optimizer(const OptimizerConfig& config, const ParameterBuffers& parameters,
            const ShardLayout& layout, std::int64_t seed, Stream& stream);

  /// Step `t`, counted from 1, with gradients multiplied by grad_scale[0] (0: the step is skipped).
  /// cast: gets the masters' values, rounded; or empty.
  void update(Stream& stream, std::int64_t t, double lr, Ref<const float, 1> gradient_shard,
              Ref<const float, 1> grad_scale, Ref<bf16, 1> cast = {}) const;

 private:
  OptimizerConfig config_;
  ParameterBuffers parameters_;
  std::uint64_t seed_;
  std::vector<ElementPlace> places_;  // what parameters_.places is copied from
};

}  // namespace koios
