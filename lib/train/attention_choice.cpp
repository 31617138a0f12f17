#include "train/attention_choice.hpp"

#include <algorithm>
#include <string>

#include "core/explain.hpp"
#include "core/log.hpp"

namespace koios {
namespace {

/// This rank's answer: what the plans want, or why there are none.
struct Answer {
  std::int64_t bytes = 0;
  std::string refusal;
};

Answer ask(const TrainingShape& shape) {
  try {
    const LocalShape local(shape.model, shape.tensor, shape.micro_batch);
    return {ask_attention_workspace_bytes(shape.math, local.attention, shape.compute,
                                          local.attention_pitches()),
            ""};
  } catch (...) {
    return {0, explain_current_exception()};
  }
}

/// Of runs that the fused attention could be for: float32 has no other than the fallback.
std::string why_fallback(const TrainingShape& shape) {
  if (shape.compute != DType::bfloat16) return "";
  const LocalShape local(shape.model, shape.tensor, shape.micro_batch);
  return why_fallback_attention(shape.math, local.attention, shape.compute);
}

void warn(const MpiEnv& mpi, const std::string& why) {
  if (mpi.rank() == 0) log::warning("the slower fallback attention runs: ", why);
}

}  // namespace

void choose_attention(TrainingShape& shape, const MpiEnv& mpi) {
  if (shape.backend == Backend::host) return;
  const Answer mine = ask(shape);
  shape.math.attention_workspace_bytes = std::ranges::max(mpi.all_gather_values(mine.bytes));
  const std::vector<std::string> refusals = mpi.all_gather(mine.refusal);
  const auto refused = std::find_if(refusals.begin(), refusals.end(),
                                    [](const std::string& refusal) { return !refusal.empty(); });
  if (refused == refusals.end()) {
    const std::string why = why_fallback(shape);
    if (!why.empty()) warn(mpi, why);
    return;
  }
  const std::string why = cat(*refused, " (rank ", refused - refusals.begin(), ")");
  if (shape.math.attention == AttentionKind::cudnn) throw UserError(why);
  warn(mpi, why);
  shape.math.attention = AttentionKind::fallback;
}

}  // namespace koios
