#include "kernels/detail/attention_plan.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios::detail {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

}  // namespace

bool uses_cudnn(const MathOptions& options, const AttentionShape& shape,
                std::int64_t element_bytes) {
  if (options.attention == AttentionKind::fallback) return false;
  const bool possible =
      has_cudnn() && element_bytes == 2 && shape.head_dim % 8 == 0 && !shape.document_mask;
  if (options.attention == AttentionKind::automatic || possible) return possible;
  if (!has_cudnn()) {
    throw UserError(
        "attention by cuDNN was asked for, but this build has none: it was configured "
        "without cuDNN or its frontend's headers (tools/setup.sh --cuda brings them)");
  }
  if (shape.document_mask) {
    throw UserError(
        "attention by cuDNN was asked for, but Koios' use of it has no mask of documents: "
        "choose the fallback attention, or auto");
  }
  throw UserError(
      cat("attention by cuDNN was asked for, but it takes bfloat16 and head sizes that "
          "are multiples of 8; this is ",
          element_bytes == 2 ? "bfloat16" : "float32", " with head size ", shape.head_dim));
}

std::int64_t attention_cudnn_workspace_bytes(const AttentionShape& shape, bool deterministic) {
  constexpr std::int64_t kTile = 128;  // cuDNN pads sequences to at most this
  const std::int64_t keys = round_up(shape.kv_len(), kTile);
  const std::int64_t rows = shape.batch * shape.heads * round_up(shape.seq_len, kTile);
  const auto float_bytes = std::int64_t{sizeof(float)};
  // dq in float32, the row sums of do * o (twice: cuDNN and its frontend), and with grouped
  // queries dk and dv of every query head before they are added up.
  std::int64_t bytes = rows * shape.head_dim * float_bytes + 2 * rows * float_bytes;
  if (shape.heads != shape.kv_heads) {
    bytes += 2 * shape.batch * shape.heads * keys * shape.head_dim * float_bytes;
  }
  // The deterministic pass keeps the gradients of all scores in bf16 instead of adding to dq in
  // whatever order blocks come.
  if (deterministic) bytes += rows * keys * 2;
  return bytes + 2 * kMiB;
}

FallbackTiling::FallbackTiling(const AttentionShape& shape, std::int64_t element_bytes) {
  constexpr std::int64_t kBudget = 64 * kMiB;
  constexpr std::int64_t kMostQueries = 256;
  constexpr std::int64_t kLeastQueries = 16;
  constexpr std::int64_t kAlignment = 256;
  const bool narrow_type = element_bytes == 2;
  pitch = round_up(shape.kv_len(), 64);
  // Two float32 matrices, overwritten in place by float probabilities and score gradients; in bf16
  // those two lie beside them.
  const std::int64_t row_bytes = pitch * 2 * (4 + (narrow_type ? element_bytes : 0));
  queries = std::clamp(kBudget / row_bytes, kLeastQueries, kMostQueries);
  queries = std::min(queries, shape.seq_len);
  kv_heads = std::clamp<std::int64_t>(kBudget / (row_bytes * queries), 1, shape.kv_heads);

  const std::int64_t matrix = kv_heads * queries * pitch;
  // bf16 gradients of keys and values are added up in float32 over chunks and heads.
  const std::int64_t gradient =
      narrow_type ? kv_heads * shape.kv_len() * shape.head_dim * std::int64_t{4} : 0;
  const auto after = [](std::int64_t offset, std::int64_t bytes) {
    return offset + round_up(bytes, kAlignment);
  };
  scores = 0;
  score_gradients = after(scores, matrix * 4);
  probabilities = after(score_gradients, matrix * 4);
  dk = narrow_type ? after(probabilities, 2 * matrix * element_bytes) : probabilities;
  dv = after(dk, gradient);
  total = after(dv, gradient);
}

}  // namespace koios::detail
