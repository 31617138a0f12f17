#include "shard/fp8_weights.hpp"

#include "core/error.hpp"
#include "core/integers.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/fp8_weights.hpp"

namespace koios {
namespace {

/// Whether both are one matrix in the gathered memory.
bool are_joined(const ParameterLayout& p, const ParameterLayout& next) {
  return p.spec.scale_group == next.spec.scale_group && p.cols == next.cols &&
         p.full_offset + p.rows * p.cols == next.full_offset;
}

}  // namespace

std::int64_t narrow_elements(const UnitLayout& unit) {
  std::int64_t end = 0;
  for (const ParameterLayout& p : unit.parameters) {
    if (p.spec.scale_group < 0) return p.full_offset;
    end = unit.full_size;
  }
  return end;
}

ScalePlaces::ScalePlaces(const ShardLayout& layout, Fp8ScaleKind kind) {
  for (const UnitLayout& unit : layout.units()) {
    std::vector<Of>& places = parameter.emplace_back(unit.parameters.size());
    if (!unit.is_held) continue;
    const ParameterLayout* before = nullptr;
    for (std::size_t i = 0; i < unit.parameters.size(); ++i) {
      const ParameterLayout& p = unit.parameters[i];
      if (p.spec.scale_group < 0) break;  // the others follow
      if (kind == Fp8ScaleKind::matrix) {
        if (before == nullptr || before->spec.scale_group != p.spec.scale_group) ++scales;
        places[i].straight = scales - 1;
      } else {
        const bool is_joined = before != nullptr && are_joined(*before, p);
        if (!is_joined) scales = round_up(scales, kFp8ScalePitch);
        places[i].straight = scales;
        scales += fp8_scale_floats(p.part_rows * layout.ranks(), p.cols, kind);
        KOIOS_REQUIRE(kind == Fp8ScaleKind::row || p.rows % kFp8Block == 0, p.spec.name, " has ",
                      p.rows, " rows, not whole squares");
      }
      before = &p;
    }
    if (kind != Fp8ScaleKind::row) continue;
    for (std::size_t i = 0; i < places.size(); ++i) {  // behind those of the rows that are joined
      const ParameterLayout& p = unit.parameters[i];
      if (p.spec.scale_group < 0) continue;
      if (i > 0 && are_joined(unit.parameters[i - 1], p)) {
        places[i].turned = places[i - 1].turned;
        continue;
      }
      places[i].turned = round_up(scales, kFp8ScalePitch);
      scales = places[i].turned + p.cols;
    }
  }
}

std::int64_t shared_scale_bytes(const ShardLayout& layout, Fp8ScaleKind kind) {
  return ScalePlaces(layout, kind).scales * size_of(DType::float32);
}

WeightScaleBuffers::WeightScaleBuffers(Arena& arena, const ShardLayout& layout, Fp8ScaleKind of)
    : kind(of) {
  constexpr std::string_view kLabel = "scales of weights";
  const ScalePlaces places(layout, kind);
  const bool is_matrix = kind == Fp8ScaleKind::matrix;
  amax = arena.take<float>(kLabel, places.scales);
  inverse = arena.take<float>(kLabel, places.scales * (is_matrix ? kFp8ScalePitch : 1));
}

WeightScales::WeightScales(const ShardLayout& layout, const WeightScaleBuffers& buffers,
                           Ref<const float, 1> masters, Communicator& rows, Communicator& parts,
                           Stream& compute)
    : layout_(layout),
      places_(layout, buffers.kind),
      buffers_(buffers),
      masters_(masters),
      rows_(rows),
      parts_(parts),
      compute_(compute) {}

template <class F>
void WeightScales::each_narrow(const F& f) const {
  for (int unit = 0; unit < narrow<int>(std::ssize(layout_.units())); ++unit) {
    if (!layout_.unit(unit).is_held) continue;
    for (int p = 0; p < narrow<int>(std::ssize(layout_.unit(unit).parameters)); ++p) {
      if (layout_of(unit, p).spec.scale_group >= 0) f(unit, p);
    }
  }
}

Ref<const float, 2> WeightScales::mine(const ParameterLayout& p) const {
  return make_ref(masters_.data + p.in_shard.first, p.here.rows.count, p.cols);
}

void WeightScales::look() {
  fill(compute_, buffers_.amax, 0);
  each_narrow([&](int unit, int parameter) {
    const ParameterLayout& p = layout_of(unit, parameter);
    const std::int64_t first = layout_.rank() * p.part_rows;
    if (kind() == Fp8ScaleKind::matrix) {
      raise_amax<float>(compute_, slice(buffers_.amax, places_.of(unit, parameter).straight, 1),
                        mine(p));
    } else if (kind() == Fp8ScaleKind::row) {
      raise_amax_of_rows_and_columns<float>(
          compute_, slice(of_rows(buffers_.amax, unit, parameter), first, p.here.rows.count),
          of_columns(buffers_.amax, unit, parameter), mine(p));
    } else {
      raise_amax_of_squares(compute_, of_squares(buffers_.amax, unit, parameter), mine(p), first);
    }
  });
}

// As integers: magnitudes have the same order, and NaN is the largest and survives.
void WeightScales::share() {
  const AnyRef bits{buffers_.amax.data, places_.scales, DType::int32};
  rows_.all_reduce(bits, ReduceOp::max, compute_);
  if (kind() == Fp8ScaleKind::matrix) {
    parts_.all_reduce(bits, ReduceOp::max, compute_);
  } else {
    make_weight_scales(compute_, buffers_.amax, buffers_.inverse);
  }
  known_ = true;
}

std::vector<fp8_e4m3*> WeightScales::cast_mine(Stream& s, int unit, int parameter,
                                               fp8_e4m3* gathered, unsigned values) const {
  const ParameterLayout& p = layout_of(unit, parameter);
  const std::int64_t first = layout_.rank() * p.part_rows;
  const auto place = [&](fp8_e4m3* full) {
    return make_ref(full + first * p.cols, p.part_rows, p.cols);
  };
  const Ref<const float, 2> masters =
      make_ref(masters_.data + p.in_shard.first, p.part_rows, p.cols);
  fp8_e4m3* full = gathered + p.full_offset;
  switch (kind()) {
    case Fp8ScaleKind::row: {
      fp8_e4m3* by_column = full + narrow_elements(layout_.unit(unit));
      const bool forward = (values & kForwardValues) != 0;
      const bool backward = (values & kBackwardValues) != 0;
      cast_weights_by_row_and_column(
          s, forward ? place(full) : Ref<fp8_e4m3, 2>{},
          backward ? place(by_column) : Ref<fp8_e4m3, 2>{}, masters,
          slice(of_rows(buffers_.amax, unit, parameter), first, p.part_rows),
          of_columns(buffers_.amax, unit, parameter));
      std::vector<fp8_e4m3*> cast;
      if (forward) cast.push_back(full);
      if (backward) cast.push_back(by_column);
      return cast;
    }
    case Fp8ScaleKind::square:
      cast_weights_by_square(s, place(full), masters, of_squares(buffers_.amax, unit, parameter),
                             first);
      return {full};
    default: {
      const std::int64_t at = places_.of(unit, parameter).straight;
      const auto flat = [](auto rows) { return make_ref(rows.data, std::int64_t{1}, rows.size()); };
      cast_to_fp8<fp8_e4m3, float>(
          s, flat(place(full)), flat(masters),
          {slice(buffers_.amax, at, 1), slice(buffers_.inverse, at * kFp8ScalePitch, 1)}, {});
      return {full};
    }
  }
}

NarrowUnit WeightScales::view(int unit, const fp8_e4m3* gathered) const {
  NarrowUnit view{.values = gathered, .by_column = nullptr, .scales = {}};
  if (kind() == Fp8ScaleKind::row) {
    view.by_column = gathered + narrow_elements(layout_.unit(unit));
  }
  const std::int64_t floats = kind() == Fp8ScaleKind::matrix ? kFp8ScalePitch : 1;
  const float* inverse = buffers_.inverse.data;
  for (const ScalePlaces::Of& at : places_.parameter[static_cast<std::size_t>(unit)]) {
    if (at.straight < 0) break;  // 8-bit parameters come first
    const float* straight = inverse + at.straight * floats;
    view.scales.push_back({straight, at.turned < 0 ? straight : inverse + at.turned});
  }
  return view;
}

}  // namespace koios
