#include "shard/parameters.hpp"

#include "core/random.hpp"
#include "kernels/elementwise.hpp"

namespace koios {

ParameterBuffers::ParameterBuffers(Arena& arena, const ShardLayout& layout)
    : master(arena.take<float>("master parameters", layout.shard_size())),
      exp_avg(arena.take<float>("optimizer exp_avg", layout.shard_size())),
      exp_avg_sq(arena.take<float>("optimizer exp_avg_sq", layout.shard_size())) {}

void initialize_parameters(Stream& stream, const ShardLayout& layout, Ref<float, 1> masters,
                           std::uint64_t seed) {
  for (const UnitLayout& unit : layout.units()) {
    for (const ParameterLayout& p : unit.parameters) {
      const auto rows = make_ref(masters.data + p.shard_offset, p.rows_here, p.cols);
      const InitialValue& initial = p.spec.initial;
      if (initial.std > 0) {
        fill_normal(stream, rows, seed, stream_of(p.spec.name),
                    p.first_row * p.spec.cols + p.first_col, p.spec.cols, initial.std, initial.cut);
      } else {
        fill(stream, make_ref(rows.data, rows.size()), static_cast<float>(initial.mean));
      }
    }
  }
}

}  // namespace koios
