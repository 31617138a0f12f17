// Executes the lists of actions of all stages of a pipeline, without a model: who waits for whom,
// what every buffer holds, and when each pass would run where it takes the time given here.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "train/step_actions.hpp"

namespace koios::testing {

struct PassTimes {
  double forward = 1;
  double backward_input = 1;
  double backward_weight = 1;
};

/// How far a call that exchanges something with another stage holds up its caller.
enum class Waiting {
  for_buffers,  // as streams do: only where a buffer that is used again has not been received yet
  for_partners  // every send until it is asked for
};

struct Simulated {
  std::string problem;  // "" where every list ran to its end and no rule was broken
  double time = 0;      // until the last stage to end has ended
  double work = 0;      // of each stage
  std::vector<int> most_in_flight;

  double bubble() const { return 1 - work / time; }
};

class Simulator {
 public:
  explicit Simulator(const TrainingShape& shape, Waiting waiting = Waiting::for_buffers,
                     PassTimes times = {})
      : shape_(shape), waiting_(waiting), times_(times) {
    for (int stage = 0; stage < shape.mesh.size(Axis::pp); ++stage) {
      const ShardLayout layout = shard_layout(shape, shape.first_rank(stage));
      stages_.push_back({.place = shape.place(stage),
                         .shape = shape.stage(stage),
                         .layout = layout,
                         .actions = training_actions(shape, layout)});
    }
  }

  /// To be changed before run().
  std::vector<Action>& actions(int stage) {
    return stages_[static_cast<std::size_t>(stage)].actions;
  }

  Simulated run() {
    bool moved = true;
    while (moved && result_.problem.empty()) {
      moved = false;
      for (Stage& stage : stages_) {
        while (stage.next < stage.actions.size() && perform(stage)) moved = true;
      }
    }
    for (const Stage& stage : stages_) {
      result_.time = std::max(result_.time, stage.now);
      result_.work = stage.work;
      result_.most_in_flight.push_back(stage.most_in_flight);
      if (stage.next < stage.actions.size()) {
        fail(cat("stage ", stage.place.stage, " stands at '",
                 describe(stage.actions[stage.next], stage.layout), "'"));
      } else if (!stage.in_flight.empty()) {
        fail(cat("stage ", stage.place.stage, " ends with micro-batches in flight"));
      }
    }
    return result_;
  }

 private:
  using Kind = Action::Kind;

  struct Stage {
    StagePlace place;
    StageShape shape;
    ShardLayout layout;
    std::vector<Action> actions;
    std::size_t next = 0;
    double now = 0;
    double work = 0;
    int most_in_flight = 0;
    std::set<int> in_flight = {};     // micro-batches between forward and all of backward
    std::map<int, int> input = {};    // place -> micro-batch asked for or there
    std::set<int> has_gradient = {};  // micro-batches whose backward pass has begun
    std::map<int, int> forwards = {}, backwards = {}, weights = {};  // micro-batch -> units done
  };
  /// One direction of one boundary.
  struct Wire {
    std::vector<int> asked, sent;  // micro-batches, in order
    std::vector<double> sent_at;
  };

  Wire& activations(int boundary) { return wires_[{boundary, 0}]; }
  Wire& gradients(int boundary) { return wires_[{boundary, 1}]; }
  void fail(const std::string& what) { result_.problem += what + "\n"; }
  void require(bool holds, const Stage& stage, const char* what) {
    if (!holds) {
      fail(cat("stage ", stage.place.stage, ", ", describe(stage.actions[stage.next], stage.layout),
               ": ", what));
    }
  }

  /// Where `micro` is in the order of the calls; -1: not yet.
  static int index_of(const std::vector<int>& calls, int micro) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      if (calls[i] == micro) return static_cast<int>(i);
    }
    return -1;
  }
  /// A call that is made but may hold up its caller: true where the caller goes on.
  bool call(Wire& wire, std::vector<int>& mine, const std::vector<int>& partner, int micro,
            bool is_send, double now) {
    if (index_of(mine, micro) < 0) {
      mine.push_back(micro);
      if (is_send) wire.sent_at.push_back(now);
    }
    const auto number = static_cast<std::size_t>(index_of(mine, micro));
    const bool waits = waiting_ == Waiting::for_partners && is_send;
    return !waits || partner.size() > number;
  }

  /// False where the stage has to wait.
  bool perform(Stage& s) {
    const Action& action = s.actions[s.next];
    const int micro = action.micro_batch;
    const int stage = s.place.stage;
    switch (action.kind) {
      case Kind::receive: {
        const int place = micro % s.shape.inputs;
        if (index_of(activations(stage - 1).asked, micro) < 0) {
          const auto before = s.input.find(place);
          require(before == s.input.end() || before->second == micro ||
                      !s.in_flight.contains(before->second),
                  s, "its place is in use");
          s.input[place] = micro;
        }
        Wire& wire = activations(stage - 1);
        if (!call(wire, wire.asked, wire.sent, micro, false, s.now)) return false;
        break;
      }
      case Kind::send: {
        Wire& wire = activations(stage);
        const int reused = micro - s.shape.outputs;
        if (reused >= 0 && index_of(wire.asked, reused) < 0) return false;
        require(s.forwards[micro] == held(s), s, "sent before it is computed");
        if (!call(wire, wire.sent, wire.asked, micro, true, s.now)) return false;
        break;
      }
      case Kind::receive_gradient: {
        Wire& wire = gradients(stage);
        const int reused = micro - s.shape.slots;
        if (!s.place.is_first() && reused >= 0 &&
            index_of(gradients(stage - 1).asked, reused) < 0) {
          return false;
        }
        if (!call(wire, wire.asked, wire.sent, micro, false, s.now)) return false;
        break;
      }
      case Kind::send_gradient: {
        Wire& wire = gradients(stage - 1);
        require(s.backwards[micro] == held(s) - heads(s), s, "sent before it is computed");
        if (!call(wire, wire.sent, wire.asked, micro, true, s.now)) return false;
        break;
      }
      case Kind::load: {
        if (!s.place.is_first()) {
          const Wire& wire = activations(stage - 1);
          const int number = index_of(wire.sent, micro);
          if (number < 0) return false;
          require(number == index_of(wire.asked, micro), s, "sent and received in other orders");
          require(s.input[micro % s.shape.inputs] == micro, s, "its input is another's");
          s.now = std::max(s.now, wire.sent_at[static_cast<std::size_t>(number)]);
        }
        for (const int other : s.in_flight) {
          require(other % s.shape.slots != micro % s.shape.slots, s, "its slot is in use");
        }
        s.in_flight.insert(micro);
        s.most_in_flight = std::max(s.most_in_flight, static_cast<int>(s.in_flight.size()));
        spend(s, times_.forward);
        break;
      }
      case Kind::forward:
        require(s.in_flight.contains(micro), s, "its micro-batch is not there");
        if (s.layout.unit(action.unit).role == UnitRole::head && !s.place.is_first()) {
          const int reused = micro - s.shape.slots;
          if (reused >= 0 && index_of(gradients(stage - 1).asked, reused) < 0) return false;
        }
        ++s.forwards[micro];
        break;
      case Kind::backward:
      case Kind::backward_input: {
        const bool is_split = action.kind == Kind::backward_input;
        if (!s.has_gradient.contains(micro)) {
          if (!s.place.is_last()) {
            const Wire& wire = gradients(stage);
            const int number = index_of(wire.sent, micro);
            if (number < 0) return false;
            require(number == index_of(wire.asked, micro), s, "sent and received in other orders");
            s.now = std::max(s.now, wire.sent_at[static_cast<std::size_t>(number)]);
          }
          require(s.forwards[micro] == held(s), s, "its forward pass is not done");
          s.has_gradient.insert(micro);
          spend(s, times_.backward_input + (is_split ? 0 : times_.backward_weight));
        }
        if (is_split && action.unit == s.layout.first_held() && !s.place.is_first()) {
          const int reused = micro - s.shape.slots;
          if (reused >= 0 && index_of(gradients(stage - 1).asked, reused) < 0) return false;
        }
        ++s.backwards[micro];
        if (!s.shape.splits_backward && s.backwards[micro] == held(s) - heads(s)) {
          s.in_flight.erase(micro);
        }
        break;
      }
      case Kind::backward_weight:
        require(s.in_flight.contains(micro), s, "its micro-batch is not there");
        require(s.backwards[micro] == held(s) - heads(s), s, "its gradients are not there");
        if (s.weights[micro]++ == 0) spend(s, times_.backward_weight);
        if (s.weights[micro] == std::ssize(s.layout.held(UnitRole::block))) {
          s.in_flight.erase(micro);
        }
        break;
      case Kind::update:
        require(static_cast<int>(s.has_gradient.size()) == shape_.reduce.micro_batches &&
                    s.in_flight.empty(),
                s, "not every micro-batch has been through");
        break;
      default:
        break;
    }
    ++s.next;
    return true;
  }

  static int held(const Stage& s) {
    int units = 0;
    for (const UnitLayout& unit : s.layout.units()) units += unit.is_held ? 1 : 0;
    return units;
  }
  static int heads(const Stage& s) { return s.place.is_last() ? 1 : 0; }
  static void spend(Stage& s, double time) {
    s.now += time;
    s.work += time;
  }

  const TrainingShape& shape_;
  Waiting waiting_;
  PassTimes times_;
  std::vector<Stage> stages_;
  std::map<std::pair<int, int>, Wire> wires_;
  Simulated result_;
};

}  // namespace koios::testing
