#include "pipeline/actions.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "core/error.hpp"

namespace koios {
namespace {

using Kind = Action::Kind;

bool needs_weights(const Action& action, const StageUnit& unit) {
  switch (action.kind) {
    case Kind::forward:
    case Kind::evaluate:
    case Kind::recompute:
    case Kind::backward_input:
      return true;
    case Kind::backward:
      return unit.role != UnitRole::embedding;
    default:
      return false;
  }
}

/// The computation, unit by unit, and where gradients leave.
class Expansion {
 public:
  Expansion(const std::vector<StageUnit>& units, const ActionOptions& options, int micro_batches)
      : units_(units), options_(options), micro_batches_(micro_batches) {}

  void add(const std::vector<Pass>& schedule) {
    receive(schedule.front());
    for (std::size_t i = 0; i < schedule.size(); ++i) {
      if (i + 1 < schedule.size()) receive(schedule[i + 1]);
      add(schedule[i]);
    }
  }
  std::vector<Action> take() { return std::move(actions_); }

 private:
  void add(const Pass& pass) {
    switch (pass.kind) {
      case Pass::Kind::forward:
        return forward(pass.micro_batch);
      case Pass::Kind::backward:
        return backward(pass.micro_batch, false);
      case Pass::Kind::backward_input:
        return backward(pass.micro_batch, true);
      case Pass::Kind::backward_weight:
        return backward_weight(pass.micro_batch);
      case Pass::Kind::evaluate:
        return evaluate(pass.micro_batch);
    }
  }

  bool is_first() const { return options_.place.is_first(); }
  bool is_last() const { return options_.place.is_last(); }

  /// What the pass needs from other stages.
  void receive(const Pass& pass) {
    if (pass.kind == Pass::Kind::backward_weight) return;
    if (pass.kind == Pass::Kind::backward || pass.kind == Pass::Kind::backward_input) {
      if (!is_last()) {
        actions_.push_back({Kind::receive_gradient, units_.back().unit, pass.micro_batch});
      }
    } else if (!is_first()) {
      actions_.push_back({Kind::receive, units_.front().unit, pass.micro_batch});
    }
  }
  void send(int micro) {
    if (!is_last()) actions_.push_back({Kind::send, units_.back().unit, micro});
  }

  void forward(int micro) {
    actions_.push_back({Kind::load, -1, micro});
    for (const StageUnit& u : units_) {
      const bool is_head = u.role == UnitRole::head;
      actions_.push_back({Kind::forward, u.unit, micro, is_head && accumulates(micro)});
      if (u.is_recomputed) in_scratch_ = {u.unit, micro};
      if (is_head) reduce(u.unit, micro);
    }
    send(micro);
  }

  void evaluate(int micro) {
    actions_.push_back({Kind::load, -1, micro});
    for (const StageUnit& u : units_) {
      const Kind kind = u.role == UnitRole::head ? Kind::evaluate : Kind::forward;
      actions_.push_back({kind, u.unit, micro});
    }
    send(micro);
  }

  /// only_input: what backward_weight does not do.
  void backward(int micro, bool only_input) {
    for (auto u = units_.rbegin(); u != units_.rend(); ++u) {
      if (u->role == UnitRole::head) continue;  // done with its forward pass
      if (u->is_recomputed && in_scratch_ != std::pair(u->unit, micro)) {
        actions_.push_back({Kind::recompute, u->unit, micro});
        in_scratch_ = {u->unit, micro};
      }
      const bool is_split = only_input && u->role == UnitRole::block;
      KOIOS_REQUIRE(!is_split || !u->is_recomputed, "backward_weight wants what is recomputed");
      const Kind kind = is_split ? Kind::backward_input : Kind::backward;
      actions_.push_back({kind, u->unit, micro, accumulates(micro)});
      if (!is_split) reduce(u->unit, micro);
    }
    if (!is_first()) actions_.push_back({Kind::send_gradient, units_.front().unit, micro});
  }

  void backward_weight(int micro) {
    for (auto u = units_.rbegin(); u != units_.rend(); ++u) {
      if (u->role != UnitRole::block) continue;
      actions_.push_back({Kind::backward_weight, u->unit, micro, accumulates(micro)});
      reduce(u->unit, micro);
    }
  }

  /// Whether a unit's gradients add to those of earlier micro-batches where they are written.
  bool accumulates(int micro) const {
    const bool leave_each_time = options_.is_sharded && options_.every_micro_batch;
    return micro > 0 && !leave_each_time;
  }

  void reduce(int unit, int micro) {
    const bool is_last = micro + 1 == micro_batches_;
    if (options_.is_sharded && (options_.every_micro_batch || is_last)) {
      actions_.push_back({Kind::reduce, unit, micro, options_.every_micro_batch && micro > 0});
    }
    if (options_.is_replicated && is_last) actions_.push_back({Kind::all_reduce, unit, micro});
  }

  const std::vector<StageUnit>& units_;
  const ActionOptions& options_;
  int micro_batches_;
  std::pair<int, int> in_scratch_ = {-1, -1};  // unit and micro-batch recomputed last
  std::vector<Action> actions_;
};

/// Puts gathers between the computations.
class Gathers {
 public:
  Gathers(const std::vector<StageUnit>& units, int prefetch) : prefetch_(prefetch) {
    for (const StageUnit& u : units) unit_[u.unit] = u;
  }

  std::vector<Action> insert(const std::vector<Action>& actions) {
    std::vector<Action> all;
    for (std::size_t i = 0; i < actions.size(); ++i) {
      if (uses_buffer(actions[i])) {
        gather(actions[i], all);
        look_ahead(actions, i, all);
      }
      all.push_back(actions[i]);
    }
    return all;
  }

 private:
  const StageUnit& unit_of(const Action& action) const { return unit_.at(action.unit); }
  bool uses_buffer(const Action& action) const {
    if (action.unit < 0) return false;
    const StageUnit& unit = unit_of(action);
    return needs_weights(action, unit) && unit.weight_buffer >= 0;
  }
  bool is_held(const Action& action) const {
    const auto held = held_.find(unit_of(action).weight_buffer);
    return held != held_.end() && held->second == action.unit;
  }
  void gather(const Action& action, std::vector<Action>& all) {
    if (is_held(action)) return;
    all.push_back({Kind::gather, action.unit, action.micro_batch});
    held_[unit_of(action).weight_buffer] = action.unit;
  }

  /// Gathers for the next `prefetch_` computations on other units after actions[now], as far as no
  /// computation before them still needs what their buffer holds.
  void look_ahead(const std::vector<Action>& actions, std::size_t now, std::vector<Action>& all) {
    std::vector<int> busy = {unit_of(actions[now]).weight_buffer};
    int last_unit = actions[now].unit;
    int ahead = 0;
    for (std::size_t i = now + 1; i < actions.size() && ahead < prefetch_; ++i) {
      if (!uses_buffer(actions[i]) || actions[i].unit == last_unit) continue;
      const int buffer = unit_of(actions[i]).weight_buffer;
      if (std::find(busy.begin(), busy.end(), buffer) == busy.end()) gather(actions[i], all);
      busy.push_back(buffer);
      last_unit = actions[i].unit;
      ++ahead;
    }
  }

  int prefetch_;
  std::map<int, StageUnit> unit_;
  std::map<int, int> held_;  // buffer -> unit
};

}  // namespace

std::vector<Action> make_actions(const std::vector<Pass>& schedule,
                                 const std::vector<StageUnit>& units,
                                 const ActionOptions& options) {
  int micro_batches = 0;
  for (const Pass& pass : schedule) micro_batches = std::max(micro_batches, pass.micro_batch + 1);
  Expansion expansion(units, options, micro_batches);
  expansion.add(schedule);
  std::vector<Action> actions = Gathers(units, options.prefetch).insert(expansion.take());
  const bool is_training = schedule.front().kind != Pass::Kind::evaluate;
  if (is_training) actions.push_back({Kind::update});
  return actions;
}

std::string describe(const Action& action, const ShardLayout& layout) {
  static constexpr const char* kNames[] = {
      "load",           "gather",          "receive",  "send",       "receive gradient",
      "send gradient",  "forward",         "evaluate", "recompute",  "backward",
      "backward input", "backward weight", "reduce",   "all-reduce", "update"};
  const char* name = kNames[static_cast<int>(action.kind)];
  if (action.kind == Kind::update) return name;
  if (action.kind == Kind::load) return cat(name, " ", action.micro_batch);
  return cat(name, " ", layout.unit(action.unit).name, " ", action.micro_batch,
             action.accumulate ? " +" : "");
}

}  // namespace koios
