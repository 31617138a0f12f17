// Executes the lists of actions of all stages of a pipeline, without a model: who waits for whom,
// what every buffer holds, and when each pass would run where it takes the time given here.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "action_text.hpp"
#include "train/step_actions.hpp"

namespace koios::testing {

/// Of all of a stage's units; each of several runs takes its part.
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
                 action_text(stage.actions[stage.next], stage.layout), "'"));
      } else if (!stage.in_flight.empty()) {
        fail(cat("stage ", stage.place.stage, " ends with micro-batches in flight"));
      }
    }
    return result_;
  }

 private:
  using Kind = Action::Kind;

  /// A micro-batch on a run of units, which the run's first unit stands for.
  struct Passage {
    int unit = 0;
    int micro_batch = 0;
    auto operator<=>(const Passage&) const = default;
  };
  struct Progress {
    int slot = 0;
    int forwards = 0, backwards = 0, weights = 0;  // units done
  };
  struct Stage {
    StagePlace place;
    StageShape shape;
    ShardLayout layout;
    std::vector<Action> actions;
    std::size_t next = 0;
    double now = 0;
    double work = 0;
    int most_in_flight = 0;
    std::map<Passage, Progress> in_flight = {};    // between forward and all of backward
    std::map<int, Passage> input = {};             // what was asked for, by buffer
    std::map<int, Passage> output = {};            // what was sent, by buffer
    std::map<int, Passage> gradient_of_slot = {};  // what was sent
    int ended = 0;
  };
  /// One direction of one boundary. A passage is named by its place on the later stage.
  struct Wire {
    std::vector<Passage> asked, sent;  // in order
    std::vector<double> sent_at;
  };

  /// Into the stage, and out of it.
  Wire& activations_in(const Stage& s) { return wires_[{s.place.stage, 0}]; }
  Wire& activations_out(const Stage& s) { return wires_[{after(s), 0}]; }
  Wire& gradients_out(const Stage& s) { return wires_[{s.place.stage, 1}]; }
  Wire& gradients_in(const Stage& s) { return wires_[{after(s), 1}]; }
  static int after(const Stage& s) { return (s.place.stage + 1) % s.place.stages; }

  void fail(const std::string& what) { result_.problem += what + "\n"; }
  void require(bool holds, const Stage& stage, const char* what) {
    if (!holds) {
      fail(cat("stage ", stage.place.stage, ", ",
               action_text(stage.actions[stage.next], stage.layout), ": ", what));
    }
  }

  /// Where the passage is in the order of the calls; -1: not yet.
  static int index_of(const std::vector<Passage>& calls, const Passage& passage) {
    const auto found = std::find(calls.begin(), calls.end(), passage);
    return found == calls.end() ? -1 : static_cast<int>(found - calls.begin());
  }
  static bool is_in(const std::vector<Passage>& calls, const Passage& passage) {
    return index_of(calls, passage) >= 0;
  }
  /// A call that is made but may hold up its caller: true where the caller goes on.
  bool call(Wire& wire, std::vector<Passage>& mine, const std::vector<Passage>& partner,
            const Passage& passage, bool is_send, double now) {
    if (!is_in(mine, passage)) {
      mine.push_back(passage);
      if (is_send) wire.sent_at.push_back(now);
    }
    const auto number = static_cast<std::size_t>(index_of(mine, passage));
    const bool waits = waiting_ == Waiting::for_partners && is_send;
    return !waits || partner.size() > number;
  }
  /// Waits for what was asked for; false where it has not been sent.
  bool arrived(Stage& s, const Wire& wire, const Passage& passage) {
    const int number = index_of(wire.sent, passage);
    if (number < 0) return false;
    require(number == index_of(wire.asked, passage), s, "sent and received in other orders");
    s.now = std::max(s.now, wire.sent_at[static_cast<std::size_t>(number)]);
    return true;
  }

  static const std::vector<int>& run_of(const std::vector<std::vector<int>>& runs, int unit) {
    return *std::find_if(runs.begin(), runs.end(),
                         [&](const auto& run) { return unit <= run.back(); });
  }

  /// False where the stage has to wait.
  bool perform(Stage& s) {
    const Action& action = s.actions[s.next];
    if (action.kind == Kind::update) {
      const int passages = shape_.reduce.micro_batches * shape_.pipeline.runs;
      require(s.ended == passages && s.in_flight.empty(), s,
              "not every micro-batch has been through");
      ++s.next;
      return true;
    }
    const std::vector<std::vector<int>> runs = s.layout.runs();
    const std::vector<int>& run = run_of(runs, action.unit);  // load: the first
    const Passage passage{run.front(), action.micro_batch};
    const Passage onward{run.back() + 1, action.micro_batch};
    const bool is_first_unit = action.unit == run.front();
    const bool has_head = s.layout.unit(run.back()).role == UnitRole::head;
    const int units = static_cast<int>(run.size());
    const int units_backward = units - (has_head ? 1 : 0);
    const int blocks =
        units_backward - (s.layout.unit(run.front()).role == UnitRole::embedding ? 1 : 0);
    switch (action.kind) {
      case Kind::receive: {
        Wire& wire = activations_in(s);
        if (!is_in(wire.asked, passage)) {
          const auto before = s.input.find(action.buffer);
          require(before == s.input.end() || !s.in_flight.contains(before->second), s,
                  "its place is in use");
          s.input[action.buffer] = passage;
        }
        if (!call(wire, wire.asked, wire.sent, passage, false, s.now)) return false;
        break;
      }
      case Kind::send: {
        Wire& wire = activations_out(s);
        const auto before = s.output.find(action.buffer);
        if (before != s.output.end() && before->second != onward &&
            !is_in(wire.asked, before->second)) {
          return false;
        }
        s.output[action.buffer] = onward;
        require(s.in_flight[passage].forwards == units, s, "sent before it is computed");
        if (!call(wire, wire.sent, wire.asked, onward, true, s.now)) return false;
        break;
      }
      case Kind::receive_gradient: {
        Wire& wire = gradients_in(s);
        if (!gradient_has_left(s, action.slot)) return false;
        if (!call(wire, wire.asked, wire.sent, onward, false, s.now)) return false;
        break;
      }
      case Kind::send_gradient: {
        Wire& wire = gradients_out(s);
        s.gradient_of_slot[action.slot] = passage;
        require(!s.in_flight.contains(passage) || s.in_flight[passage].backwards == units_backward,
                s, "sent before it is computed");
        if (!call(wire, wire.sent, wire.asked, passage, true, s.now)) return false;
        break;
      }
      case Kind::load:
      case Kind::reload:
        for (const auto& [other, progress] : s.in_flight) {
          require(progress.slot != action.slot, s, "its slot is in use");
        }
        if (action.kind == Kind::reload) {
          const auto first = s.in_flight.find({runs.front().front(), action.micro_batch});
          require(first != s.in_flight.end() && first->second.slot == action.buffer, s,
                  "its tokens are not there");
        }
        s.in_flight[passage] = {.slot = action.slot};
        s.most_in_flight = std::max(s.most_in_flight, static_cast<int>(s.in_flight.size()));
        break;
      case Kind::forward:
        require(s.in_flight.contains(passage), s, "its micro-batch is not there");
        if (is_first_unit) {
          if (s.layout.receives_into(action.unit)) {
            if (!arrived(s, activations_in(s), passage)) return false;
            require(s.input[action.buffer] == passage, s, "its input is another's");
          }
          spend(s, times_.forward);
        }
        if (has_head && action.unit == run.back() && !gradient_has_left(s, action.slot)) {
          return false;
        }
        ++s.in_flight[passage].forwards;
        break;
      case Kind::backward:
      case Kind::backward_input: {
        const bool is_split = action.kind == Kind::backward_input;
        Progress& progress = s.in_flight[passage];
        if (progress.backwards == 0) {
          if (!has_head && !arrived(s, gradients_in(s), onward)) return false;
          require(progress.forwards == units, s, "its forward pass is not done");
          spend(s, times_.backward_input + (is_split ? 0 : times_.backward_weight));
        }
        if (is_split && is_first_unit && !gradient_has_left(s, action.slot)) return false;
        ++progress.backwards;
        if (!s.shape.splits_backward && progress.backwards == units_backward) end(s, passage);
        break;
      }
      case Kind::backward_weight: {
        Progress& progress = s.in_flight[passage];
        require(progress.backwards == units_backward, s, "its gradients are not there");
        if (progress.weights++ == 0) spend(s, times_.backward_weight);
        if (progress.weights == blocks) end(s, passage);
        break;
      }
      default:
        break;
    }
    ++s.next;
    return true;
  }

  /// Whether what the slot sent last has been asked for, so that it may be overwritten.
  bool gradient_has_left(Stage& s, int slot) {
    const auto sent = s.gradient_of_slot.find(slot);
    return sent == s.gradient_of_slot.end() || is_in(gradients_out(s).asked, sent->second);
  }
  static void end(Stage& s, const Passage& passage) {
    s.in_flight.erase(passage);
    ++s.ended;
  }
  void spend(Stage& s, double time) const {
    s.now += time / shape_.pipeline.runs;
    s.work += time / shape_.pipeline.runs;
  }

  const TrainingShape& shape_;
  Waiting waiting_;
  PassTimes times_;
  std::vector<Stage> stages_;
  std::map<std::pair<int, int>, Wire> wires_;
  Simulated result_;
};

}  // namespace koios::testing
