#include "optim/grad_norm.hpp"

#include <utility>

#include "kernels/elementwise.hpp"
#include "kernels/nonfinite.hpp"
#include "kernels/reduce.hpp"

namespace koios {

GradNormBuffers::GradNormBuffers(Arena& arena)
    : partials(arena.take<float>("optimizer scratch", kSumPartials)),
      norm_squared(arena.take<float>("optimizer scratch", 1)),
      norm(arena.take<float>("optimizer scratch", 1)),
      scale(arena.take<float>("optimizer scratch", 1)) {}

void gradient_norm(Stream& stream, const GradNormBuffers& out, Ref<const float, 1> gradient_shard,
                   const std::vector<Range>& counted, Communicator& world, float max_norm,
                   Ref<const float, 1> loss_sum, Nonfinite nonfinite) {
  if (counted.empty()) fill(stream, out.norm_squared, 0);
  bool accumulate = false;
  for (const Range& range : counted) {
    sum_of_squares(stream, out.norm_squared, slice(gradient_shard, range), out.partials,
                   std::exchange(accumulate, true));
  }
  spoil(stream, out.norm_squared, loss_sum);
  world.all_reduce(any(out.norm_squared), ReduceOp::sum, stream);
  clip_scale(stream, out.norm, out.scale, out.norm_squared, max_norm, nonfinite);
}

}  // namespace koios
