#include "kernels/detail/attention_plan.hpp"

#include <algorithm>
#include <bit>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios::detail {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kAlignment = 256;

/// As if the gradients of queries, keys and values lay in the rows of one matrix.
std::int64_t document_workspace_bytes(const AttentionShape& shape) {
  const std::int64_t rows = shape.batch * shape.seq_len;
  const std::int64_t pitch = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
  const auto float_bytes = std::int64_t{sizeof(float)};
  // dq in float32 with the pitch of dq, the row sums of do * o, and with grouped queries dk and dv
  // of every query head, with their pitch for each head of a group.
  std::int64_t bytes = rows * pitch * float_bytes + 2 * rows * shape.heads * float_bytes;
  if (shape.heads != shape.kv_heads) {
    bytes += 2 * rows * pitch * (shape.heads / shape.kv_heads) * float_bytes;
  }
  return bytes + DocumentTables::largest(shape).total + 4 * kMiB;
}

}  // namespace

std::string cudnn_obstacle(const MathOptions& options, const AttentionShape& shape,
                           std::int64_t element_bytes) {
  if (!has_cudnn()) {
    return "this build has no cuDNN: it was configured without it or its frontend's headers "
           "(tools/setup.sh --cuda brings them)";
  }
  // With sizes that are no multiples of 16 the pass backward over documents wants a workspace of
  // whole sequences for each of them.
  const std::int64_t multiple = shape.document_mask ? 16 : 8;
  if (element_bytes != 2 || shape.head_dim % multiple != 0) {
    return cat("cuDNN takes bfloat16 and head sizes that are multiples of ", multiple,
               shape.document_mask ? " where documents are kept apart" : "", "; this is ",
               element_bytes == 2 ? "bfloat16" : "float32", " with head size ", shape.head_dim);
  }
  if (!shape.document_mask) return "";
  if (options.deterministic) {
    return "with job/deterministic cuDNN keeps documents apart at the price of all their scores in "
           "memory";
  }
  if (shape.sequence_parts || shape.earlier_keys > 0) {
    return "Koios does not tell cuDNN of documents whose keys lie on several context-parallel "
           "ranks";
  }
  return "";
}

bool uses_cudnn(const MathOptions& options, const AttentionShape& shape,
                std::int64_t element_bytes) {
  if (options.attention == AttentionKind::fallback) return false;
  const std::string obstacle = cudnn_obstacle(options, shape, element_bytes);
  if (obstacle.empty()) return true;
  if (options.attention == AttentionKind::automatic) return false;
  throw UserError(cat("attention by cuDNN was asked for, but ", obstacle,
                      ": choose the fallback attention, or auto"));
}

DocumentTables::DocumentTables(std::int64_t of)
    : documents(std::int64_t(std::bit_ceil(static_cast<std::uint64_t>(of)))),
      offsets(round_up(documents * std::int64_t{sizeof(std::int32_t)}, kAlignment)),
      step(round_up((documents + 1) * std::int64_t{sizeof(std::int64_t)}, kAlignment)),
      total(offsets + kMostPitches * step) {}

DocumentTables DocumentTables::largest(const AttentionShape& shape) {
  return DocumentTables(std::min(kMostDocuments, shape.batch * shape.seq_len));
}

std::int64_t attention_cudnn_workspace_bytes(const AttentionShape& shape, bool deterministic) {
  if (shape.document_mask) return document_workspace_bytes(shape);
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
