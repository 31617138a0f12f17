#include "kernels/detail/attention_plan.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"

namespace koios::detail {
namespace {

constexpr AttentionShape kSevenB{2, 4096, 32, 32, 128};
constexpr std::int64_t kMiB = std::int64_t{1} << 20;

TEST(AttentionPlan, CudnnTakesBf16AndHeadSizesOfEight) {
  if (!has_cudnn()) GTEST_SKIP() << "no cuDNN in this build";
  EXPECT_TRUE(uses_cudnn({}, kSevenB, 2));
  EXPECT_FALSE(uses_cudnn({}, kSevenB, 4));
  EXPECT_FALSE(uses_cudnn({}, {1, 8, 1, 1, 6}, 2));
  EXPECT_FALSE(uses_cudnn({.attention = AttentionKind::fallback}, kSevenB, 2));
  EXPECT_TRUE(uses_cudnn({.attention = AttentionKind::cudnn}, kSevenB, 2));
  EXPECT_THROW(uses_cudnn({.attention = AttentionKind::cudnn}, kSevenB, 4), UserError);
  AttentionShape masked = kSevenB;
  masked.document_mask = true;
  EXPECT_TRUE(uses_cudnn({}, masked, 2));
  EXPECT_FALSE(uses_cudnn({.deterministic = true}, masked, 2));
  EXPECT_THROW(uses_cudnn({.attention = AttentionKind::cudnn, .deterministic = true}, masked, 2),
               UserError);
  AttentionShape narrow = masked;
  narrow.head_dim = 72;
  EXPECT_FALSE(uses_cudnn({}, narrow, 2));
  AttentionShape in_parts = masked;
  in_parts.sequence_parts = true;
  EXPECT_FALSE(uses_cudnn({}, in_parts, 2));
}

TEST(AttentionPlan, DocumentsHaveFewPlans) {
  EXPECT_EQ(DocumentTables(1).documents, 1);
  EXPECT_EQ(DocumentTables(17).documents, 32);
  EXPECT_EQ(DocumentTables::largest(kSevenB).documents, DocumentTables::kMostDocuments);
  EXPECT_EQ(DocumentTables::largest({2, 50, 1, 1, 16}).documents, 128);  // of one token each
}

TEST(AttentionPlan, DocumentsMayAllGoToTheFallback) {
  if (!has_cudnn()) GTEST_SKIP() << "no cuDNN in this build";
  AttentionShape masked{1, 64, 1, 1, 128};
  masked.document_mask = true;
  const MathOptions asked{.attention_workspace_bytes = 12345};
  EXPECT_EQ(attention_workspace_bytes(Backend::cuda, asked, masked, 2),
            FallbackTiling(masked, 2).total);
}

TEST(AttentionPlan, FallbackStaysWithinItsBudget) {
  for (const std::int64_t element_bytes : {2, 4}) {
    for (const AttentionShape& shape :
         {kSevenB, {1, 32768, 64, 8, 128}, {16, 512, 16, 16, 16}, {1, 1, 1, 1, 2}}) {
      const FallbackTiling tiling(shape, element_bytes);
      EXPECT_GE(tiling.queries, 1);
      EXPECT_GE(tiling.kv_heads, 1);
      EXPECT_LE(tiling.kv_heads, shape.kv_heads);
      // 64 MiB of scores, and in bf16 the sums of dk and dv for the heads at work.
      const std::int64_t sums = 2 * tiling.kv_heads * shape.seq_len * shape.head_dim * 4;
      EXPECT_LE(tiling.total, 65 * kMiB + (element_bytes == 2 ? sums : 0));
    }
  }
}

TEST(AttentionPlan, CudnnNeedsDqInFloat) {
  const std::int64_t rows = std::int64_t{2} * 32 * 4096;
  const auto bytes = attention_cudnn_workspace_bytes(kSevenB, false);
  EXPECT_GE(bytes, rows * 128 * 4 + rows * 4);
  EXPECT_LE(bytes, rows * 128 * 4 + rows * 8 + 2 * kMiB);
  EXPECT_GT(attention_cudnn_workspace_bytes(kSevenB, true), bytes);
  EXPECT_GT(attention_cudnn_workspace_bytes({2, 4096, 32, 8, 128}, false), bytes);
}

TEST(AttentionPlan, WhatCudnnWasAskedCountsForCudnnAlone) {
  if (!has_cudnn()) GTEST_SKIP() << "no cuDNN in this build";
  const MathOptions asked{.attention_workspace_bytes = 12345};
  EXPECT_EQ(attention_workspace_bytes(Backend::cuda, asked, kSevenB, 2), 12345);
  EXPECT_EQ(attention_workspace_bytes(Backend::cuda, asked, kSevenB, 4),
            FallbackTiling(kSevenB, 4).total);
  EXPECT_EQ(attention_workspace_bytes(Backend::host, asked, kSevenB, 2),
            attention_workspace_bytes(Backend::host, {}, kSevenB, 2));
}

TEST(AttentionPlan, NobodyIsAskedWhereTheFallbackRuns) {
  EXPECT_EQ(ask_attention_workspace_bytes({.attention = AttentionKind::fallback}, kSevenB,
                                          DType::bfloat16, {3 * 4096, 3 * 4096, 4096}),
            0);
  EXPECT_EQ(ask_attention_workspace_bytes({}, kSevenB, DType::float32, {3 * 4096, 3 * 4096, 4096}),
            0);
}

}  // namespace
}  // namespace koios::detail
