#include "model/activations.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "kernels/rmsnorm.hpp"

namespace koios {
namespace {

constexpr std::string_view kScratch = "activation scratch";
constexpr std::string_view kLogits = "logits of one chunk";

/// A saved tensor of a block whose level is `level`: kept, or taken from what blocks share.
/// again: the least level that computes the tensor again.
template <class U, int R, class... Extents>
Ref<U, R> keep_or_share(Arena& arena, Recompute level, Recompute again, const Ref<U, R>* shared,
                        Extents... extents) {
  if (level < again) return arena.take<U>(kActivations, extents...);
  return shared != nullptr ? *shared : arena.take<U>(kRecomputed, extents...);
}

}  // namespace

// Full logits never exist. 4096 rows keep the GEMM efficient on a GPU (128 row tiles of 32,000
// columns); on the host each chunk packs the output matrix anew, which 1024 rows are worth.
std::int64_t head_chunk(Backend backend, std::int64_t tokens) {
  const std::int64_t rows = backend == Backend::cuda ? 4096 : 1024;
  return std::min(rows, tokens);
}

Fp8ScaleKind fp8_token_scale(Fp8Recipe recipe) {
  switch (recipe) {
    case Fp8Recipe::rowwise:
      return Fp8ScaleKind::row;
    case Fp8Recipe::block:
      return Fp8ScaleKind::piece;
    default:
      return Fp8ScaleKind::matrix;
  }
}

Fp8ScaleKind fp8_weight_scale(Fp8Recipe recipe) {
  return recipe == Fp8Recipe::block ? Fp8ScaleKind::square : fp8_token_scale(recipe);
}

template <class T>
BlockSaved<T>::BlockSaved(Arena& arena, const ModelSpec& m, const LocalShape& local,
                          Recompute level, Fp8Recipe recipe, const BlockSaved* shared,
                          const BlockSaved* before, const Ref<T, 2>* received)
    : recompute(level) {
  fp8.recipe = recipe;
  using enum Recompute;
  const auto of = [shared](auto tensor) {
    return shared == nullptr ? nullptr : &(shared->*tensor);
  };
  const auto take_rows = [&](RowStatistics BlockSaved::*rows) {
    const RowStatistics* other = of(rows);
    const auto take = [&](Ref<float, 1> RowStatistics::*statistic) {
      this->*rows.*statistic = keep_or_share<float, 1>(
          arena, level, op, other == nullptr ? nullptr : &(other->*statistic), local.rows);
    };
    take(&RowStatistics::rstd_S);
    if (has_mean(m.norm)) take(&RowStatistics::mean_S);
  };
  const auto take = [&]<class U, int R>(Recompute again, Ref<U, R> BlockSaved::*tensor,
                                        auto... extents) {
    this->*tensor = keep_or_share<U, R>(arena, level, again, of(tensor), extents...);
  };
  const auto take_input = [&](Ref<T, 2> BlockSaved::*tensor, auto... extents) {
    if (!is_fp8()) return take(op, tensor, extents...);
    const bool has_scratch = before != nullptr && before->is_fp8();
    this->*tensor = has_scratch ? before->*tensor : arena.take<T>(kScratch, extents...);
  };
  x_SD = received != nullptr ? *received : arena.take<T>(kActivations, local.rows, m.dim);
  take_rows(&BlockSaved::rows1);
  take_input(&BlockSaved::normed1_SD, local.rows, m.dim);
  take_qkv(arena, local, shared);
  take(full, &BlockSaved::attention_NA, local.tokens, local.q_cols);
  take(full, &BlockSaved::lse_BHT, local.tokens * local.heads);
  take(op_half, &BlockSaved::mid_SD, local.rows, m.dim);
  take_rows(&BlockSaved::rows2);
  take_input(&BlockSaved::normed2_SD, local.rows, m.dim);
  take_gate_up(arena, local, shared);
  take_input(&BlockSaved::activated_NF, local.tokens, local.ffn);
  if (is_fp8()) {
    take_fp8(arena, m, local, shared);
  } else if (shared != nullptr) {  // handed on to the next block in FP8
    fp8 = shared->fp8;
    fp8.recipe = Fp8Recipe::none;
  }
}

template <class T>
void BlockSaved<T>::take_fp8(Arena& arena, const ModelSpec& m, const LocalShape& local,
                             const BlockSaved* shared) {
  const std::int64_t inputs[kBlockLinears] = {m.dim, local.q_cols, m.dim, local.ffn};
  const Fp8ScaleKind kind = fp8_token_scale(fp8.recipe);
  const bool has_shared = shared != nullptr && shared->fp8.x_IN[0].size() > 0;
  for (int layer = 0; layer < kBlockLinears; ++layer) {
    const std::int64_t in = inputs[layer];
    fp8.x_IN[layer] = keep_or_share<fp8_e4m3, 2>(arena, recompute, Recompute::op,
                                                 has_shared ? &shared->fp8.x_IN[layer] : nullptr,
                                                 in, local.tokens);
    const auto scale = arena.take<float>(kActivations, fp8_scale_floats(in, local.tokens, kind));
    fp8.scale[layer] = fp8_scales(scale.data, in, local.tokens, kind);
  }
  fp8.amax = arena.take<float>(kActivations, 2 * kBlockLinears);
}

// With op_half k is computed again and q and v are kept, so k lies apart.
template <class T>
void BlockSaved<T>::take_qkv(Arena& arena, const LocalShape& local, const BlockSaved* shared) {
  using enum Recompute;
  const std::int64_t n = local.tokens;
  const std::int64_t q = local.q_cols;
  const std::int64_t kv = local.kv_cols;
  if (is_stacked()) {
    move_qkv(keep_or_share<T, 2>(arena, recompute, full,
                                 shared == nullptr ? nullptr : &shared->qkv_NQ, n, q + 2 * kv),
             local);
  } else {
    const Ref<T, 2> qv_NQ = arena.take<T>(kActivations, n, q + kv);
    q_NA = column_range(qv_NQ, 0, q);
    v_N = column_range(qv_NQ, q, kv);
    k_N = keep_or_share<T, 2>(arena, recompute, op_half, shared == nullptr ? nullptr : &shared->k_N,
                              n, kv);
  }
}

template <class T>
void BlockSaved<T>::move_qkv(Ref<T, 2> place_NQ, const LocalShape& local) {
  qkv_NQ = place_NQ;
  q_NA = column_range(qkv_NQ, 0, local.q_cols);
  k_N = column_range(qkv_NQ, local.q_cols, local.kv_cols);
  v_N = column_range(qkv_NQ, local.q_cols + local.kv_cols, local.kv_cols);
}

// With op_half up is computed again and gate is kept; the gradients of both, one matrix, take the
// place of what is computed again.
template <class T>
void BlockSaved<T>::take_gate_up(Arena& arena, const LocalShape& local, const BlockSaved* shared) {
  using enum Recompute;
  const std::int64_t n = local.tokens;
  if (!is_stacked()) gate_NF = arena.take<T>(kActivations, n, local.ffn);
  gate_up_N2F =
      keep_or_share<T, 2>(arena, recompute, is_stacked() ? full : op_half,
                          shared == nullptr ? nullptr : &shared->gate_up_N2F, n, 2 * local.ffn);
  if (is_stacked()) gate_NF = column_range(gate_up_N2F, 0, local.ffn);
  up_NF = column_range(gate_up_N2F, local.ffn, local.ffn);
}

namespace {

template <class T>
HeadSaved<T> take_head(Arena& arena, const ModelSpec& m, const LocalShape& local) {
  HeadSaved<T> head;
  head.x_SD = arena.take<T>(kActivations, local.rows, m.dim);
  head.rows.rstd_S = arena.take<float>(kActivations, local.rows);
  if (has_mean(m.norm)) head.rows.mean_S = arena.take<float>(kActivations, local.rows);
  head.normed_SD = arena.take<T>(kActivations, local.rows, m.dim);
  return head;
}

template <class Q>
Fp8Room<Q> take_room(Arena& arena, std::initializer_list<std::pair<std::int64_t, std::int64_t>> of,
                     Fp8ScaleKind kind) {
  constexpr std::string_view kLabel = "8-bit operands";
  std::int64_t values = 0;
  std::int64_t scales = 0;
  for (const auto& [rows, columns] : of) {
    values = std::max(values, rows * columns);
    scales = std::max(scales, fp8_scale_floats(rows, columns, kind));
  }
  return {arena.take<Q>(kLabel, values), arena.take<float>(kLabel, scales)};
}

Fp8Scratch take_fp8_scratch(Arena& arena, const ModelSpec& m, const LocalShape& local,
                            Fp8Recipe recipe, bool casts_weights) {
  constexpr std::string_view kLabel = "8-bit operands";
  const std::int64_t n = local.tokens;
  const std::int64_t qkv = local.qkv_cols();
  const std::int64_t gate_up = 2 * local.ffn;
  const std::int64_t widest_in = std::max({m.dim, local.q_cols, local.ffn});
  const std::int64_t widest_out = std::max({m.dim, qkv, gate_up});
  const Fp8ScaleKind of_tokens = fp8_token_scale(recipe);
  const Fp8ScaleKind of_weights = fp8_weight_scale(recipe);
  Fp8Scratch scratch;
  scratch.x = take_room<fp8_e4m3>(arena, {{n, widest_in}}, of_tokens);
  scratch.dy = take_room<fp8_e5m2>(arena, {{n, widest_out}}, of_tokens);
  scratch.dy_turned = take_room<fp8_e5m2>(arena, {{widest_out, n}}, of_tokens);
  if (casts_weights) {
    scratch.w = take_room<fp8_e4m3>(
        arena, {{qkv, m.dim}, {m.dim, local.q_cols}, {gate_up, m.dim}, {m.dim, local.ffn}},
        of_weights);
  }
  scratch.w_turned = take_room<fp8_e4m3>(
      arena, {{m.dim, qkv}, {local.q_cols, m.dim}, {m.dim, gate_up}, {local.ffn, m.dim}},
      of_weights);
  if (recipe == Fp8Recipe::rowwise) {
    scratch.amax = arena.take<float>(kLabel, n + std::max(widest_in, widest_out));
  }
  scratch.counts = arena.take<std::int64_t>(kLabel, kFp8Counts);
  return scratch;
}

template <class T>
void take_logits(Arena& arena, const StageShape& shape, const LocalShape& local,
                 StageScratch<T>& scratch) {
  const std::int64_t chunk = head_chunk(arena.backend(), local.tokens);
  const std::int64_t vocab = shape.model.vocab_size;
  const bool is_shared = shape.tensor.ranks > 1 && shape.tensor.loss_parallel;
  const bool is_gathered = shape.tensor.ranks > 1 && !is_shared;
  scratch.loss_N = arena.take<float>(kActivations, local.tokens);
  scratch.logits_CV = arena.take<T>(kLogits, chunk, is_shared ? local.vocab : vocab);
  if (is_gathered) scratch.logit_parts = arena.take<T>(kLogits, chunk * vocab);
  if (is_shared) scratch.softmax_4C = arena.take<float>(kLogits, 4 * chunk);
}

}  // namespace

int StageShape::of_all_runs(int RunShape::*count) const {
  int all = 0;
  for (const RunShape& run : runs) all += run.*count;
  return all;
}

template <class T>
StageBuffers<T>::StageBuffers(Arena& arena, const StageShape& shape, const ShardLayout& layout)
    : tp(arena, shape.tensor.ranks, shape.micro_batch.tokens(), shape.model.dim,
         shape.tensor.asynchronous, shape.scratch_factor),
      context(arena, shape.local(), shape.scratch_factor) {
  const ModelSpec& m = shape.model;
  const LocalShape local = shape.local();
  const Backend backend = arena.backend();
  const bool has_head = !layout.held(UnitRole::head).empty();
  const BlockSaved<T>* shared = nullptr;
  KOIOS_REQUIRE(!shape.splits_backward || shape.recompute.level == Recompute::none,
                "backward_weight wants what is recomputed");
  const std::vector<std::vector<int>> runs = layout.runs();
  KOIOS_REQUIRE(runs.size() == shape.runs.size(), runs.size(), " runs, not ", shape.runs.size());
  for (const RunShape& run : shape.runs) {
    KOIOS_REQUIRE(run.inputs == 0 || run.inputs >= run.slots, run.inputs, " inputs for ", run.slots,
                  " slots");
    for (int i = 0; i < run.inputs; ++i) {
      const bool is_ahead = i >= run.slots;
      input.push_back(arena.take<T>(is_ahead ? kBetweenStages : kActivations, local.rows, m.dim));
    }
  }
  for (int i = 0; i < shape.outputs(); ++i) {
    output.push_back(arena.take<T>(kBetweenStages, local.rows, m.dim));
  }
  slot.resize(static_cast<std::size_t>(shape.slots()));
  std::size_t number = 0;
  std::size_t first_input = 0;
  int blocks_before = 0;
  for (std::size_t r = 0; r < runs.size(); ++r) {
    const RunShape& run = shape.runs[r];
    for (int i = 0; i < run.slots; ++i) {
      StageSaved<T>& saved = slot[number++];
      saved.block.reserve(runs[r].size());
      for (const int unit : runs[r]) {
        const UnitRole role = layout.unit(unit).role;
        if (role == UnitRole::head) saved.head = take_head<T>(arena, m, local);
        if (role != UnitRole::block) continue;
        const Recompute level = shape.recompute.of_block(layout.unit(unit).layer);
        const BlockSaved<T>* before = nullptr;
        if (!saved.block.empty()) {
          before = &saved.block.back();
        } else if (&saved != &slot.front()) {
          before = &slot.front().block.front();
        }
        const std::size_t place = first_input + static_cast<std::size_t>(i);
        const bool is_received = saved.block.empty() && run.inputs > 0;
        saved.block.emplace_back(arena, m, local, level,
                                 shape.fp8.of_block(layout.unit(unit).layer), shared, before,
                                 is_received ? &input[place] : nullptr);
        Fp8Saved& fp8 = saved.block.back().fp8;
        fp8.fast_backward = shape.fp8.fast_backward;
        fp8.first_in_history =
            saved.block.back().is_fp8() && shape.fp8.scales == Fp8ScalesOf::previous
                ? 2 * kBlockLinears * (blocks_before + narrow<int>(std::ssize(saved.block)) - 1)
                : -1;
        if (level != Recompute::none) shared = &saved.block.back();
      }
      saved.dx_SD = arena.take<T>(kScratch, local.rows, m.dim);
      saved.d_in_SD =
          shape.splits_backward ? arena.take<T>(kScratch, local.rows, m.dim) : saved.dx_SD;
    }
    first_input += static_cast<std::size_t>(run.inputs);
    blocks_before += narrow<int>(std::ssize(slot[number - 1].block));  // of any slot of the run
  }
  scratch.delta_SD = arena.take<T>(kScratch, local.rows, m.dim);
  scratch.d_normed_SD = arena.take<T>(kScratch, local.rows, m.dim);
  scratch.d_attention_NA = arena.take<T>(kScratch, local.tokens, local.q_cols);
  scratch.d_qkv_NQ = arena.take<T>(kScratch, local.tokens, local.qkv_cols());
  scratch.d_activated_NF = arena.take<T>(kScratch, local.tokens, local.ffn);
  if (has_head) take_logits(arena, shape, local, scratch);
  if (shape.fp8.is_on()) {
    scratch.fp8 = take_fp8_scratch(arena, m, local, shape.fp8.recipe, shape.casts_weights);
  }
  if (shape.fp8.scales == Fp8ScalesOf::previous) {
    fp8_history = Fp8HistoryBuffers(arena, std::int64_t{2} * kBlockLinears * blocks_before);
  }
  const std::int64_t parts = has_weight(m.norm) ? norm_backward_partials(backend) : 0;
  scratch.norm_partial_PD = arena.take<float>(kScratch, parts, m.dim);
  scratch.rope_TE =
      arena.take<float>(kScratch, shape.micro_batch.tokens_of_sequence(), m.head_dim());
  scratch.attention_workspace = arena.take<std::byte>(
      "attention workspace",
      attention_workspace_bytes(backend, shape.math, local.attention, sizeof(T)));
}

template struct BlockSaved<float>;
template struct BlockSaved<bf16>;
template struct StageBuffers<float>;
template struct StageBuffers<bf16>;

}  // namespace koios
