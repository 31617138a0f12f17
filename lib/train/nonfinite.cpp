#include "train/nonfinite.hpp"

#include <algorithm>
#include <cmath>

#include "comm/verdict.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "core/readable.hpp"
#include "model/model_spec.hpp"
#include "runtime/copy.hpp"

namespace koios {
namespace {

constexpr std::string_view kLabel = "optimizer scratch";

std::int64_t held_parameters(const ShardLayout& layout) {
  std::int64_t count = 0;
  for (const UnitLayout& unit : layout.units()) {
    if (unit.is_held) count += std::ssize(unit.parameters);
  }
  return count;
}

/// The unit that was the last to leave its gradients in each buffer; -1: none did.
std::vector<int> last_users(const UnitSlots<float>& slots, const std::vector<int>& reduced) {
  std::vector<int> users(slots.buffer.size(), -1);
  for (const int unit : reduced) users[slots.slot(unit)] = unit;
  return users;
}

/// When a unit's backward pass comes to a parameter: block.cpp's steps, and the head's.
int backward_order(UnitRole role, int parameter) {
  if (role != UnitRole::block) return parameter;
  constexpr int kOrder[] = {kW2, kW3, kW1, kFfnNorm, kWo, kWv, kWk, kWq, kAttentionNorm};
  return static_cast<int>(std::find(std::begin(kOrder), std::end(kOrder), parameter) - kOrder);
}

/// Whether the backward pass comes to a before b: from the head to the embedding.
bool comes_before(const NonfiniteParameter& a, const NonfiniteParameter& b,
                  const std::vector<UnitLayout>& units) {
  if (a.unit != b.unit) return a.unit > b.unit;
  const UnitRole role = units[static_cast<std::size_t>(a.unit)].role;
  return backward_order(role, a.parameter) < backward_order(role, b.parameter);
}

}  // namespace

NonfiniteBuffers::NonfiniteBuffers(Arena& arena, const ShardLayout& layout)
    : gate(arena.take<std::int32_t>(kLabel, 1)),
      count(arena.take<std::int32_t>(kLabel, 3 * held_parameters(layout))),
      stretches(arena.take<std::int64_t>(kLabel, 3 * held_parameters(layout), 2)),
      count_of_result(arena.take<std::int32_t>(kLabel, 1)) {}

NonfiniteSearch::NonfiniteSearch(const ShardLayout& layout, const NonfiniteBuffers& buffers,
                                 Ref<const float, 1> masters, Ref<const float, 1> gradient_shard,
                                 const UnitSlots<float>* full, const std::vector<int>& reduced,
                                 Stream& compute)
    : layout_(layout), buffers_(buffers) {
  const auto units = static_cast<int>(layout.units().size());
  for (int unit = 0; unit < units; ++unit) {
    if (!layout.unit(unit).is_held) continue;
    add(Kind::master, unit, masters.data, false);
    add(Kind::gradient, unit, gradient_shard.data, false);
  }
  if (full != nullptr) {
    for (const int unit : last_users(*full, reduced)) {
      if (unit >= 0) add(Kind::own_gradient, unit, full->of(unit).data, true);
    }
  }
  const auto count = std::ssize(places_);
  buffers_.count = slice(buffers_.count, 0, count);
  buffers_.stretches = row_range(buffers_.stretches, 0, count);
  copy(compute, any(buffers_.stretches), any(make_ref(stretches_.data(), count, 2)));
}

void NonfiniteSearch::add(Kind kind, int unit, const float* data, bool is_full) {
  const std::vector<ParameterLayout>& parameters = layout_.unit(unit).parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const ParameterLayout& p = parameters[i];
    const float* first = data + (is_full ? p.full_offset : p.in_shard.first);
    places_.push_back({kind, unit, static_cast<int>(i)});
    stretches_.push_back(static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(first)));
    stretches_.push_back(is_full ? p.rows * p.cols : p.here.size());
  }
}

void NonfiniteSearch::look(Stream& compute, Ref<const float, 1> norm) {
  open_gate(compute, buffers_.gate, norm);
  count_nonfinite_if(compute, buffers_.count, buffers_.stretches, buffers_.gate);
}

NonfiniteFindings NonfiniteSearch::take(Stream& compute) {
  std::vector<std::int32_t> counts(places_.size());
  copy(compute, any(make_ref(counts.data(), std::ssize(counts))), any(buffers_.count));
  fill_zero(compute, any(buffers_.count));
  fill_zero(compute, any(buffers_.gate));
  compute.synchronize();
  NonfiniteFindings found;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    if (counts[i] == 0) continue;
    const auto& [kind, unit, parameter] = places_[i];
    const NonfiniteParameter here{unit, parameter, counts[i]};
    std::optional<NonfiniteParameter>& first = kind == Kind::master     ? found.parameter
                                               : kind == Kind::gradient ? found.gradient
                                                                        : found.own_gradient;
    if (!first || comes_before(here, *first, layout_.units())) first = here;
  }
  return found;
}

namespace {

/// Of one rank.
struct NonfiniteReport {
  double loss = 0;                         // 0 where another stage has it
  std::optional<NonfiniteFindings> found;  // empty: it did not look
};

/// One of several ranks' findings.
struct Offender {
  NonfiniteParameter first;
  std::vector<int> ranks;  // that have it
  std::int64_t count = 0;  // on all of them
};

std::optional<Offender> first_offender(const std::vector<NonfiniteReport>& ranks,
                                       std::optional<NonfiniteParameter> NonfiniteFindings::*kind,
                                       const std::vector<UnitLayout>& units) {
  std::optional<Offender> offender;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].found || !((*ranks[rank].found).*kind)) continue;
    const NonfiniteParameter& here = *((*ranks[rank].found).*kind);
    if (!offender || comes_before(here, offender->first, units)) offender = Offender{here, {}, 0};
    if (comes_before(offender->first, here, units)) continue;
    offender->ranks.push_back(static_cast<int>(rank));
    offender->count += here.count;
  }
  return offender;
}

std::string names_of(const std::vector<int>& which, const std::vector<std::string>& hosts) {
  const auto first = static_cast<std::size_t>(which.front());
  if (which.size() == 1) return cat("rank ", first, " on ", hosts[first]);
  return name_ranks(which);
}

/// Without a sign for what is no number.
std::string number(double value) { return std::isnan(value) ? "nan" : cat(value); }

/// "layers.1.ffn_norm.weight (unit layers.1)"
std::string name_of(const NonfiniteParameter& p, const std::vector<UnitLayout>& units) {
  const UnitLayout& unit = units[static_cast<std::size_t>(p.unit)];
  return cat(unit.parameters[static_cast<std::size_t>(p.parameter)].spec.name, " (unit ", unit.name,
             ")");
}

/// "loss nan on rank 1 on n2, gradient norm nan; of the gradients the first in the backward pass is
/// that of layers.3.ffn_norm.weight ...". ranks, hosts: of the job, in order.
std::string describe_nonfinite(const std::vector<NonfiniteReport>& ranks,
                               const std::vector<std::string>& hosts, double grad_norm,
                               const std::vector<UnitLayout>& units) {
  std::vector<int> lossy;
  std::vector<int> own;
  bool is_known = false;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const NonfiniteReport& report = ranks[rank];
    if (!std::isfinite(report.loss)) lossy.push_back(static_cast<int>(rank));
    if (report.found && report.found->own_gradient) own.push_back(static_cast<int>(rank));
    is_known = is_known || report.found;
  }
  std::string text;
  if (!lossy.empty()) {
    text = cat("loss ", number(ranks[static_cast<std::size_t>(lossy.front())].loss), " on ",
               names_of(lossy, hosts), ", ");
  }
  text += cat("gradient norm ", number(grad_norm));
  if (!is_known) return text;
  if (const auto bad = first_offender(ranks, &NonfiniteFindings::parameter, units)) {
    return text + cat("; the parameter ", name_of(bad->first, units), " itself has ",
                      counted(bad->count, "value"), " not finite, on ",
                      names_of(bad->ranks, hosts));
  }
  const auto bad = first_offender(ranks, &NonfiniteFindings::gradient, units);
  if (!bad) {
    return text + (lossy.empty() ? "; each value of it is finite: the sum of their squares is more "
                                   "than float32 holds"
                                 : "; each value of the gradient is finite");
  }
  text += cat("; of the gradients the first in the backward pass is that of ",
              name_of(bad->first, units), ", ", counted(bad->count, "value"), " on ",
              names_of(bad->ranks, hosts));
  if (lossy.empty() && !own.empty()) text += cat(", out of the part of ", names_of(own, hosts));
  return text;
}

}  // namespace

void NonfinitePolicy::judge(std::int64_t step, const StepResult& result,
                            const std::optional<NonfiniteFindings>& found) {
  if (std::isfinite(result.grad_norm)) {
    in_a_row_ = 0;
    return;
  }
  ++in_a_row_;
  const std::vector<NonfiniteReport> reports =
      mpi_.all_gather_values(NonfiniteReport{result.loss, found});
  const bool is_lost = std::any_of(reports.begin(), reports.end(), [](const NonfiniteReport& r) {
    return r.found && r.found->parameter;
  });
  const std::string what = cat(
      "step ", step, ": ",
      describe_nonfinite(reports, mpi_.all_gather(mpi_.host()), result.grad_norm, layout_.units()));
  if (config_.on_nonfinite == OnNonfinite::go_on) {
    if (mpi_.rank() == 0) log::warning(what, "; its update was made all the same");
    return;
  }
  const std::string skipped = what + "; its update was skipped";
  if (is_lost) {
    throw UserError(skipped +
                    ". No later step can be better: go on from a checkpoint before that, with "
                    "another [optimizer] lr, [training] max_norm or [job] seed");
  }
  if (config_.on_nonfinite == OnNonfinite::stop) {
    throw UserError(skipped +
                    ". Lower [optimizer] lr or [training] max_norm, or set [training] on_nonfinite "
                    "= skip to go on; [job] check_numerics = true finds the operation");
  }
  if (in_a_row_ > config_.nonfinite_budget) {
    throw UserError(cat(skipped, ": ", in_a_row_,
                        " in a row, more than [training] nonfinite_budget = ",
                        config_.nonfinite_budget, " allows"));
  }
  if (mpi_.rank() == 0) log::warning(skipped);
}

}  // namespace koios
