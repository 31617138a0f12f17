#include "train/run_state.hpp"

#include <algorithm>
#include <chrono>
#include <string_view>

#include "core/log.hpp"
#include "data/saved_position.hpp"
#include "metrics/build_info.hpp"
#include "metrics/provenance.hpp"
#include "train/fixed_keys.hpp"

namespace koios {
namespace {

constexpr const char* kFormat = "koios";
constexpr std::int64_t kFormatVersion = 1;
constexpr const char* kCheckpoint = "checkpoint";
constexpr const char* kLosses = "train_state/loss_history";
constexpr std::string_view kPosition = "data_state/";
constexpr double kMostSteps = 1e15;  // whole numbers, in a double

Attributes root_attributes(const char* kind, const TrainingShape& shape,
                           const std::string& effective_deck) {
  return {{"format", kFormat},
          {"format_version", kFormatVersion},
          {"kind", kind},
          {"koios_version", cat(build_info::version(), " ", build_info::git_commit())},
          {"deck", effective_deck},
          {"mesh", shape.mesh.describe()},
          {"vocab_size", shape.model.vocab_size},
          {"created", iso_time_utc(std::chrono::system_clock::now())}};
}

SmallArray loss_array(const std::vector<LossRow>& rows) {
  std::vector<double> values;
  for (const LossRow& row : rows) {
    values.insert(values.end(), {static_cast<double>(row.step), row.mean, row.max});
  }
  return {kLosses, {static_cast<std::int64_t>(rows.size()), 3}, std::move(values)};
}

std::vector<LossRow> losses_of(const SmallArray& array) {
  const auto* values = std::get_if<std::vector<double>>(&array.values);
  if (values == nullptr || array.shape.size() != 2 || array.shape[1] != 3) {
    throw UserError(cat("/", kLosses, " is not [n, 3] of float64"));
  }
  std::vector<LossRow> rows;
  for (std::size_t i = 0; i + 2 < values->size(); i += 3) {
    if (!((*values)[i] >= 0 && (*values)[i] < kMostSteps)) {
      throw UserError(cat("/", kLosses, " has a row of step ", (*values)[i]));
    }
    rows.push_back({static_cast<std::int64_t>((*values)[i]), (*values)[i + 1], (*values)[i + 2]});
  }
  return rows;
}

}  // namespace

std::string describe_jump(const std::vector<LossRow>& before, const LossRow& first) {
  constexpr std::ptrdiff_t kRows = 20;
  constexpr std::ptrdiff_t kFewest = 3;
  constexpr double kLeastShare = 0.02;  // rows of many steps vary by less
  if (std::ssize(before) < kFewest) return "";
  const auto recent = before.end() - std::min(kRows, std::ssize(before));
  const auto [low, high] = std::minmax_element(
      recent, before.end(), [](const LossRow& a, const LossRow& b) { return a.mean < b.mean; });
  const double spread = std::max(high->mean - low->mean, kLeastShare * high->mean);
  if (!(first.mean > high->mean + spread)) return "";
  return cat("the loss has jumped at the restart: ", first.mean, " up to step ", first.step,
             ", but ", low->mean, " to ", high->mean, " in the lines before step ",
             before.back().step, "; is it the same data, and the same deck?");
}

CheckpointHead make_head(const RunState& state, const TrainingShape& shape,
                         const std::string& effective_deck) {
  CheckpointHead head;
  head.root = root_attributes(kCheckpoint, shape, effective_deck);
  head.train_state = {{"step", state.step}, {"tokens", state.tokens}};
  head.arrays.push_back(loss_array(state.losses));
  for (const auto& [name, values] : save_position(state.data)) {
    head.arrays.push_back(
        {std::string(kPosition) + name, {static_cast<std::int64_t>(values.size())}, values});
  }
  return head;
}

CheckpointHead make_weights_head(std::int64_t step, const TrainingShape& shape,
                                 const std::string& effective_deck) {
  CheckpointHead head{root_attributes("weights", shape, effective_deck), {}, {}};
  head.root["step"] = step;
  return head;
}

void require_step(std::int64_t step_in_name, std::int64_t step) {
  if (step == step_in_name) return;
  throw UserError(cat("its name says step ", step_in_name, ", and it is of step ", step,
                      ": give it its name back"));
}

std::string kind_of(const CheckpointHead& head) {
  if (head.text("format") != kFormat) throw UserError("it is not a file of Koios");
  const auto version = head.root.find("format_version");
  if (version == head.root.end() || !std::holds_alternative<std::int64_t>(version->second) ||
      std::get<std::int64_t>(version->second) > kFormatVersion) {
    throw UserError("its format is newer than this version of Koios");
  }
  head.text("deck");  // others will ask for it, when it is late to refuse a file
  return head.text("kind");
}

RunState read_state(const CheckpointHead& head) {
  if (const std::string kind = kind_of(head); kind != kCheckpoint) {
    throw UserError(cat("it holds ", kind, " only and cannot be resumed"));
  }
  head.text("mesh");  // likewise
  RunState state;
  state.step = head.integer("step");
  state.tokens = head.integer("tokens");
  if (state.step < 0 || state.tokens < 0) {
    throw UserError(cat("it is of step ", state.step, " and ", state.tokens, " tokens"));
  }
  SavedPosition position;
  for (const SmallArray& array : head.arrays) {
    if (array.name == kLosses) state.losses = losses_of(array);
    const auto* values = std::get_if<std::vector<std::int64_t>>(&array.values);
    if (array.name.starts_with(kPosition) && values != nullptr) {
      position[array.name.substr(kPosition.size())] = *values;
    }
  }
  state.data = restore_position(position);
  const std::int64_t seq_len = std::max<std::int64_t>(1, state.data.seq_len);
  if (state.tokens % seq_len != 0 || state.tokens / seq_len != state.data.next_sample) {
    throw UserError(cat("it is of ", state.tokens, " tokens, its position in the data of ",
                        state.data.next_sample, " samples of ", state.data.seq_len));
  }
  return state;
}

void compare_with_deck(const CheckpointHead& head, const TrainingShape& shape,
                       const std::string& effective_deck, const std::string& file) {
  const auto [fixed, free] = compare_run(head, effective_deck, shape.model.vocab_size);
  for (const DeckDifference& d : free) {
    log::info("differs from the checkpoint's deck: ", d.key, " was ", d.saved, ", now ", d.current);
  }
  std::string contradictions;
  for (const DeckDifference& d : fixed) {
    contradictions +=
        cat(contradictions.empty() ? "" : "; ", d.key, " was ", d.saved, ", now ", d.current);
  }
  if (contradictions.empty()) return;
  throw UserError(cat(file, " is of another run: ", contradictions,
                      ". Set that back, or start anew in another job/dump_folder"));
}

}  // namespace koios
