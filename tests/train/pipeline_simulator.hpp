// Executes the lists of actions of all stages of a pipeline, without a model: who waits for whom,
// what every buffer holds, and when each pass would run where it takes the time given here.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
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
      for (const std::vector<int>& run : layout.runs()) {
        for (const int unit : run) stage_of_unit_[unit] = stage;
      }
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
    std::set<Passage> handed_back = {};
    int ended = 0;
  };
  /// One direction of one boundary. A passage is named by its place on the run after it.
  struct Wire {
    std::vector<Passage> asked, sent;  // in order
    std::vector<double> asked_at, sent_at;
  };

  Wire& activations_of(const Passage& passage) { return wires_[boundary(passage, 0)]; }
  Wire& gradients_of(const Passage& passage) { return wires_[boundary(passage, 1)]; }
  /// The stages before and after it.
  std::tuple<int, int, int> boundary(const Passage& passage, int direction) const {
    return {stage_of_unit_.at(passage.unit - 1), stage_of_unit_.at(passage.unit), direction};
  }

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
      (is_send ? wire.sent_at : wire.asked_at).push_back(now);
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
        Wire& wire = activations_of(passage);
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
        Wire& wire = activations_of(onward);
        const auto before = s.output.find(action.buffer);
        if (before != s.output.end() && before->second != onward &&
            !left(s, activations_of(before->second), before->second)) {
          return false;
        }
        s.output[action.buffer] = onward;
        require(s.in_flight[passage].forwards == units, s, "sent before it is computed");
        if (!call(wire, wire.sent, wire.asked, onward, true, s.now)) return false;
        break;
      }
      case Kind::hand_over: {
        const auto before = s.input.find(action.buffer);
        require(before == s.input.end() || !s.in_flight.contains(before->second), s,
                "its place is in use");
        require(s.in_flight[passage].forwards == units, s, "handed over before it is computed");
        s.input[action.buffer] = onward;
        break;
      }
      case Kind::hand_back: {
        const Passage before{run_of(runs, run.front() - 1).front(), action.micro_batch};
        require(s.in_flight[passage].backwards == units_backward, s,
                "handed back before it is computed");
        require(s.in_flight.contains(before) && s.in_flight[before].slot == action.buffer, s,
                "its slot is another's");
        s.handed_back.insert(passage);
        break;
      }
      case Kind::receive_gradient: {
        Wire& wire = gradients_of(onward);
        if (!gradient_has_left(s, action.slot)) return false;
        if (!call(wire, wire.asked, wire.sent, onward, false, s.now)) return false;
        break;
      }
      case Kind::send_gradient: {
        Wire& wire = gradients_of(passage);
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
          if (s.layout.receives_into(action.unit) &&
              !arrived(s, activations_of(passage), passage)) {
            return false;
          }
          require(passage.unit == 0 || s.input[action.buffer] == passage, s,
                  "its input is another's");
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
          const bool is_sent = s.layout.sends_from(run.back());
          if (is_sent && !arrived(s, gradients_of(onward), onward)) return false;
          require(is_sent || has_head || s.handed_back.contains(onward), s,
                  "its gradient is not there");
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

  /// Whether what was sent has been asked for, so that it may be overwritten; waits for that.
  bool left(Stage& s, const Wire& wire, const Passage& sent) {
    const int number = index_of(wire.asked, sent);
    if (number < 0) return false;
    s.now = std::max(s.now, wire.asked_at[static_cast<std::size_t>(number)]);
    return true;
  }
  /// What the slot sent last.
  bool gradient_has_left(Stage& s, int slot) {
    const auto sent = s.gradient_of_slot.find(slot);
    return sent == s.gradient_of_slot.end() || left(s, gradients_of(sent->second), sent->second);
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
  std::map<int, int> stage_of_unit_;
  std::map<std::tuple<int, int, int>, Wire> wires_;
  Simulated result_;
};

}  // namespace koios::testing
