#include "shard/parameters.hpp"

#include "core/random.hpp"
#include "kernels/elementwise.hpp"

namespace koios {

ParameterBuffers::ParameterBuffers(Arena& arena, const ShardLayout& layout, DType moments)
    : master(arena.take<float>("master parameters", layout.shard_size())),
      exp_avg(arena.take(moments, "optimizer exp_avg", layout.shard_size())),
      exp_avg_sq(arena.take(moments, "optimizer exp_avg_sq", layout.shard_size())) {
  if (moments == DType::float32) return;
  places = arena.take<ElementPlace>("optimizer scratch", std::ssize(element_places(layout)));
}

std::vector<ElementPlace> element_places(const ShardLayout& layout) {
  static_assert(ShardLayout::kAlignment % kPlaceAlignment == 0);
  std::vector<ElementPlace> places;
  for (const UnitLayout& unit : layout.units()) {
    if (!unit.is_held) continue;
    for (const ParameterLayout& p : unit.parameters) {
      places.push_back({.begin = p.in_shard.first,
                        .stream = stream_of(p.spec.name),
                        .first = p.here.rows.first * p.spec.cols + p.here.cols.first,
                        .cols = p.cols,
                        .pitch = p.spec.cols});
    }
  }
  return places;
}

void initialize_parameters(Stream& stream, const ShardLayout& layout, Ref<float, 1> masters,
                           std::uint64_t seed) {
  for (const UnitLayout& unit : layout.units()) {
    for (const ParameterLayout& p : unit.parameters) {
      const auto rows = make_ref(masters.data + p.in_shard.first, p.here.rows.count, p.cols);
      const InitialValue& initial = p.spec.initial;
      if (initial.std > 0) {
        fill_normal(stream, rows, seed, stream_of(p.spec.name),
                    p.here.rows.first * p.spec.cols + p.here.cols.first, p.spec.cols, initial.std,
                    initial.cut);
      } else {
        fill(stream, make_ref(rows.data, rows.size()), static_cast<float>(initial.mean));
      }
    }
  }
}

}  // namespace koios
