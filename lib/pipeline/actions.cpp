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

/// The units that a micro-batch passes through at one of its visits.
struct Run {
  std::vector<StageUnit> units = {};
  RunShape shape = {};
  int first_slot = 0;
  int first_input = 0;
  int first_output = 0, outputs = 0;

  bool takes_over = false;  // from the stage's run before, whose units come before its own
  bool hands_over = false;  // to the stage's run after

  int number() const { return units.front().run; }
  bool is_models_first() const { return units.front().role == UnitRole::embedding; }
  bool is_models_last() const { return units.back().role == UnitRole::head; }
  bool receives() const { return !is_models_first() && !takes_over; }
  bool sends() const { return !is_models_last() && !hands_over; }
  int slot(int micro) const { return first_slot + micro % shape.slots; }
  int input(int micro) const { return first_input + micro % shape.inputs; }
};

std::vector<Run> make_runs(const std::vector<StageUnit>& units,
                           const std::vector<RunShape>& shapes) {
  std::vector<Run> runs;
  int slots = 0;
  int inputs = 0;
  int outputs = 0;
  for (const StageUnit& unit : units) {
    if (unit.run == static_cast<int>(runs.size())) {
      KOIOS_REQUIRE(runs.size() < shapes.size(), "more than ", shapes.size(), " runs");
      const RunShape& shape = shapes[runs.size()];
      const bool follows = !runs.empty() && runs.back().units.back().unit + 1 == unit.unit;
      if (follows) runs.back().hands_over = true;
      const bool shares_outputs = shape.outputs == 0 && !runs.empty();
      runs.push_back({.shape = shape,
                      .first_slot = slots,
                      .first_input = inputs,
                      .first_output = shares_outputs ? runs.back().first_output : outputs,
                      .outputs = shares_outputs ? runs.back().outputs : shape.outputs,
                      .takes_over = follows});
      slots += shape.slots;
      inputs += shape.inputs;
      outputs += shape.outputs;
    }
    runs.back().units.push_back(unit);
  }
  return runs;
}

/// The computation, unit by unit, and where gradients leave.
class Expansion {
 public:
  Expansion(const std::vector<StageUnit>& units, const ActionOptions& options, int micro_batches)
      : runs_(make_runs(units, options.runs)), options_(options), micro_batches_(micro_batches) {}

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
    const Run& run = run_at(pass.run);
    switch (pass.kind) {
      case Pass::Kind::forward:
        return forward(run, pass.micro_batch);
      case Pass::Kind::backward:
        return backward(run, pass.micro_batch, false);
      case Pass::Kind::backward_input:
        return backward(run, pass.micro_batch, true);
      case Pass::Kind::backward_weight:
        return backward_weight(run, pass.micro_batch);
      case Pass::Kind::evaluate:
        return evaluate(run, pass.micro_batch);
    }
  }

  const Run& run_at(int number) const { return runs_[static_cast<std::size_t>(number)]; }
  Action& push(Kind kind, const Run& run, int unit, int micro, bool accumulate = false) {
    return actions_.emplace_back(Action{kind, unit, micro, accumulate, run.slot(micro)});
  }

  /// What the pass needs from other stages.
  void receive(const Pass& pass) {
    const Run& run = run_at(pass.run);
    if (pass.kind == Pass::Kind::backward_weight) return;
    if (pass.kind == Pass::Kind::backward || pass.kind == Pass::Kind::backward_input) {
      if (run.sends()) {
        push(Kind::receive_gradient, run, run.units.back().unit, pass.micro_batch);
      }
    } else if (run.receives()) {
      Action& action = push(Kind::receive, run, run.units.front().unit, pass.micro_batch);
      action.buffer = run.input(pass.micro_batch);
    }
  }
  void send(const Run& run, int micro) {
    const int unit = run.units.back().unit;
    if (run.hands_over) {
      const int input = run_at(run.number() + 1).input(micro);
      push(Kind::hand_over, run, unit, micro).buffer = input;
    } else if (run.sends()) {
      const int turn = sent_[run.first_output]++ % run.outputs;
      push(Kind::send, run, unit, micro).buffer = run.first_output + turn;
    }
  }
  void send_gradient(const Run& run, int micro) {
    const int unit = run.units.front().unit;
    if (run.takes_over) {
      const int slot_before = run_at(run.number() - 1).slot(micro);
      push(Kind::hand_back, run, unit, micro).buffer = slot_before;
    } else if (run.receives()) {
      push(Kind::send_gradient, run, unit, micro);
    }
  }
  void load(const Run& run, int micro) {
    const Run& first = runs_.front();
    if (&run == &first) {
      push(Kind::load, run, -1, micro);
    } else {
      push(Kind::reload, run, run.units.front().unit, micro).buffer = first.slot(micro);
    }
  }
  Action& push_forward(Kind kind, const Run& run, const StageUnit& u, int micro) {
    Action& action = push(kind, run, u.unit, micro);
    if (&u == &run.units.front() && !run.is_models_first()) action.buffer = run.input(micro);
    return action;
  }

  void forward(const Run& run, int micro) {
    load(run, micro);
    for (const StageUnit& u : run.units) {
      const bool is_head = u.role == UnitRole::head;
      push_forward(Kind::forward, run, u, micro).accumulate = is_head && accumulates(micro);
      if (u.is_recomputed) in_scratch_ = {u.unit, micro};
      if (is_head) reduce(run, u.unit, micro);
    }
    send(run, micro);
  }

  void evaluate(const Run& run, int micro) {
    load(run, micro);
    for (const StageUnit& u : run.units) {
      push_forward(u.role == UnitRole::head ? Kind::evaluate : Kind::forward, run, u, micro);
    }
    send(run, micro);
  }

  /// only_input: what backward_weight does not do.
  void backward(const Run& run, int micro, bool only_input) {
    for (auto u = run.units.rbegin(); u != run.units.rend(); ++u) {
      if (u->role == UnitRole::head) continue;  // done with its forward pass
      if (u->is_recomputed && in_scratch_ != std::pair(u->unit, micro)) {
        push(Kind::recompute, run, u->unit, micro);
        in_scratch_ = {u->unit, micro};
      }
      const bool is_split = only_input && u->role == UnitRole::block;
      KOIOS_REQUIRE(!is_split || !u->is_recomputed, "backward_weight wants what is recomputed");
      const Kind kind = is_split ? Kind::backward_input : Kind::backward;
      push(kind, run, u->unit, micro, accumulates(micro));
      if (!is_split) reduce(run, u->unit, micro);
    }
    send_gradient(run, micro);
  }

  void backward_weight(const Run& run, int micro) {
    for (auto u = run.units.rbegin(); u != run.units.rend(); ++u) {
      if (u->role != UnitRole::block) continue;
      push(Kind::backward_weight, run, u->unit, micro, accumulates(micro));
      reduce(run, u->unit, micro);
    }
  }

  /// Whether a unit's gradients add to those of earlier micro-batches where they are written.
  bool accumulates(int micro) const {
    const bool leave_each_time = options_.is_sharded && options_.every_micro_batch;
    return micro > 0 && !leave_each_time;
  }

  void reduce(const Run& run, int unit, int micro) {
    const bool is_last = micro + 1 == micro_batches_;
    if (options_.is_sharded && (options_.every_micro_batch || is_last)) {
      push(Kind::reduce, run, unit, micro, options_.every_micro_batch && micro > 0);
    }
    if (options_.is_replicated && is_last) push(Kind::all_reduce, run, unit, micro);
  }

  std::vector<Run> runs_;
  const ActionOptions& options_;
  int micro_batches_;
  std::map<int, int> sent_;                    // by first output
  std::pair<int, int> in_scratch_ = {-1, -1};  // unit and micro-batch recomputed last
  std::vector<Action> actions_;
};

/// Puts gathers between the computations.
class Gathers {
 public:
  Gathers(const std::vector<StageUnit>& units, const ActionOptions& options)
      : prefetch_(options.prefetch), is_behind_(options.is_behind) {
    for (const StageUnit& u : units) unit_[u.unit] = u;
  }

  std::vector<Action> insert(const std::vector<Action>& actions) {
    std::vector<Action> all;
    for (std::size_t i = 0; i < actions.size(); ++i) {
      const bool needs_one = uses_buffer(actions[i]);
      if (needs_one) gather(actions[i], all, false);
      if (needs_one && !is_behind_) look_ahead(actions, i, all);
      all.push_back(actions[i]);
      if (needs_one && is_behind_) look_ahead(actions, i, all);
    }
    return all;
  }

 private:
  struct Held {
    int unit = -1;
    unsigned values = 0;  // WeightValues
  };
  const StageUnit& unit_of(const Action& action) const { return unit_.at(action.unit); }
  bool uses_buffer(const Action& action) const {
    if (action.unit < 0) return false;
    const StageUnit& unit = unit_of(action);
    return needs_weights(action, unit) && unit.weight_buffer >= 0;
  }
  void gather(const Action& action, std::vector<Action>& all, bool awaits_exchange) {
    const StageUnit& unit = unit_of(action);
    Held& held = held_[unit.weight_buffer];
    if (held.unit != action.unit) held = {action.unit, 0};
    const bool is_forward = action.kind == Kind::forward || action.kind == Kind::evaluate;
    const unsigned wanted = is_forward ? unit.forward_values : unit.backward_values;
    const unsigned missing = wanted & ~held.values;
    if (missing == 0) return;
    all.push_back({.kind = Kind::gather,
                   .unit = action.unit,
                   .micro_batch = action.micro_batch,
                   .values = missing,
                   .awaits_exchange = awaits_exchange});
    held.values |= missing;
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
      if (std::find(busy.begin(), busy.end(), buffer) == busy.end()) {
        gather(actions[i], all, is_behind_);
      }
      busy.push_back(buffer);
      last_unit = actions[i].unit;
      ++ahead;
    }
  }

  int prefetch_;
  bool is_behind_;
  std::map<int, StageUnit> unit_;
  std::map<int, Held> held_;  // by buffer
};

}  // namespace

std::vector<Action> make_actions(const std::vector<Pass>& schedule,
                                 const std::vector<StageUnit>& units,
                                 const ActionOptions& options) {
  int micro_batches = 0;
  for (const Pass& pass : schedule) micro_batches = std::max(micro_batches, pass.micro_batch + 1);
  Expansion expansion(units, options, micro_batches);
  expansion.add(schedule);
  std::vector<Action> actions = Gathers(units, options).insert(expansion.take());
  const bool is_training = schedule.front().kind != Pass::Kind::evaluate;
  if (is_training) actions.push_back({Kind::update});
  return actions;
}

std::string describe(const Action& action, const ShardLayout& layout) {
  static constexpr const char* kNames[] = {
      "load",      "reload",           "gather",        "receive",        "send",
      "hand over", "receive gradient", "send gradient", "hand back",      "forward",
      "evaluate",  "recompute",        "backward",      "backward input", "backward weight",
      "reduce",    "all-reduce",       "update"};
  const char* name = kNames[static_cast<int>(action.kind)];
  return action.unit < 0 ? name : cat(name, " ", layout.unit(action.unit).name);
}

}  // namespace koios
