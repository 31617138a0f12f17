// Packed documents under data/document_mask against each document alone, through the real step: the
// same loss of every token, and gradients that add up. The documents alone are trained without the
// mask, at positions from 0: that rotary embedding counts from the start of the packed sequence
// must not show.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "data/embedding_index.hpp"
#include "environment.hpp"
#include "runtime/copy.hpp"
#include "train/attention_choice.hpp"
#include "train/step.hpp"

namespace koios::testing {
namespace {

constexpr std::int64_t kVocabulary = 64;
constexpr std::int64_t kSeqLen = 160;  // beyond a block of keys

template <class T>
RunConfig small_config(const Batch& batch, bool mask, RecomputeMode recompute) {
  RunConfig c;
  c.model.dim = 48;
  c.model.n_layers = 2;
  const bool is_wide = std::is_same_v<T, bf16>;  // heads of 16, as cuDNN's, or of 8
  c.model.n_heads = is_wide ? 3 : 6;
  c.model.n_kv_heads = is_wide ? 1 : 2;
  c.model.ffn_dim = 72;
  c.training.batch_size = batch.sequences;
  c.training.seq_len = batch.seq_len;
  c.training.mixed_precision_param = dtype_of<T>;
  c.activation_checkpoint.mode = recompute;
  c.data.document_mask = mask;
  return c;
}

/// Each token's loss, and the gradient of their sum.
struct Outcome {
  std::vector<float> losses, gradients;
};

/// One step of the same model from the same weights.
template <class T = float>
Outcome train(Backend backend, const Batch& batch, bool mask,
              RecomputeMode recompute = RecomputeMode::none) {
  device_env();
  const RunConfig run = small_config<T>(batch, mask, recompute);
  const MeshShape mesh_shape{{1, 1, 1, 1, 1}};
  const Mesh mesh(mpi_env(), mesh_shape, backend, {});
  TrainingShape shape = training_shape(run, mesh_shape, backend, kVocabulary);
  choose_attention(shape, mpi_env());
  TrainingParts<T> parts(shape, 0);
  Stream& stream = initialize(parts);
  TrainStep<T> step(run, shape, mesh, parts);
  StepResults results(backend, 1, batch.sequences * batch.seq_len);
  step.run(
      0, [&] { return batch; }, results);
  Outcome outcome{to_host(stream, parts.memory.stage.scratch.loss_N),
                  to_host(stream, parts.memory.gradients.shard)};
  const auto tokens = static_cast<float>(batch.tokens.size());
  for (float& g : outcome.gradients) g *= tokens;  // the step's are of the mean
  return outcome;
}

/// Two sequences of documents; the second begins with the rest of one.
Batch packed_batch(const std::vector<std::vector<std::int64_t>>& lengths) {
  std::mt19937 random(5);
  Batch b;
  b.sequences = std::ssize(lengths);
  b.seq_len = kSeqLen;
  for (const auto& sequence : lengths) {
    std::int32_t begin = 0;
    for (const std::int64_t length : sequence) {
      b.document_start.insert(b.document_start.end(), static_cast<std::size_t>(length), begin);
      begin += static_cast<std::int32_t>(length);
    }
    EXPECT_EQ(begin, kSeqLen);
  }
  for (std::int64_t i = 0; i < b.sequences * kSeqLen; ++i) {
    b.tokens.push_back(static_cast<std::int32_t>(random() % kVocabulary));
    b.labels.push_back(static_cast<std::int32_t>(random() % kVocabulary));
  }
  b.index = make_embedding_index(b.tokens);
  return b;
}

Batch part(const Batch& packed, std::size_t first, std::size_t count) {
  Batch b;
  b.sequences = 1;
  b.seq_len = static_cast<std::int64_t>(count);
  b.tokens.assign(packed.tokens.begin() + first, packed.tokens.begin() + first + count);
  b.labels.assign(packed.labels.begin() + first, packed.labels.begin() + first + count);
  b.document_start.assign(count, 0);
  b.index = make_embedding_index(b.tokens);
  return b;
}

/// Each document by itself: losses side by side, gradients added.
template <class T = float>
Outcome train_apart(Backend backend, const Batch& packed,
                    const std::vector<std::vector<std::int64_t>>& lengths) {
  Outcome all;
  for (const auto& sequence : lengths) {
    for (const std::int64_t length : sequence) {
      const auto count = static_cast<std::size_t>(length);
      const Outcome one = train<T>(backend, part(packed, all.losses.size(), count), false);
      all.losses.insert(all.losses.end(), one.losses.begin(), one.losses.end());
      all.gradients.resize(one.gradients.size());
      std::ranges::transform(all.gradients, one.gradients, all.gradients.begin(), std::plus<>());
    }
  }
  return all;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = difference;  // NaN stays
  }
  return largest;
}

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double distance = 0;
  double size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    distance += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(distance / size);
}

class DocumentMask : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (GetParam() == Backend::cuda && device_env().backend() != Backend::cuda) {
      GTEST_SKIP() << "no GPU here";
    }
  }
};

// Float32's rounding: losses of size 4 after two blocks, and gradients as in the golden test.
TEST_P(DocumentMask, packed_is_as_each_document_alone) {
  const std::vector<std::vector<std::int64_t>> lengths = {{7, 1, 130, 22}, {64, 95, 1}};
  const Batch packed = packed_batch(lengths);
  const Outcome apart = train_apart(GetParam(), packed, lengths);
  for (const auto recompute : {RecomputeMode::none, RecomputeMode::full}) {
    const Outcome together = train(GetParam(), packed, true, recompute);
    EXPECT_LE(largest_difference(together.losses, apart.losses), 5e-6);
    EXPECT_LE(relative_distance(together.gradients, apart.gradients), 1e-5);
  }
  const Outcome unmasked = train(GetParam(), packed, false);
  EXPECT_GT(largest_difference(unmasked.losses, apart.losses), 1e-3);
  EXPECT_GT(relative_distance(unmasked.gradients, apart.gradients), 1e-3);
}

// On a GPU with the documents as cuDNN's sequences of variable length: bfloat16's roundings, which
// differ where sums do. An H200 gave 0.0079; the bounds lie below what a missing mask gives.
TEST_P(DocumentMask, in_bfloat16) {
  const std::vector<std::vector<std::int64_t>> lengths = {{7, 130, 23}, {64, 96}};
  const Batch packed = packed_batch(lengths);
  const Outcome apart = train_apart<bf16>(GetParam(), packed, lengths);
  for (const auto recompute : {RecomputeMode::none, RecomputeMode::full}) {
    const Outcome together = train<bf16>(GetParam(), packed, true, recompute);
    EXPECT_LE(largest_difference(together.losses, apart.losses), 0.01);
    EXPECT_LE(relative_distance(together.gradients, apart.gradients), 0.012);
  }
  const Outcome unmasked = train<bf16>(GetParam(), packed, false);
  EXPECT_GT(largest_difference(unmasked.losses, apart.losses), 0.015);
  EXPECT_GT(relative_distance(unmasked.gradients, apart.gradients), 0.025);
}

std::vector<Backend> backends() {
  if (is_built_in(Backend::cuda)) return {Backend::host, Backend::cuda};
  return {Backend::host};
}

INSTANTIATE_TEST_SUITE_P(Backends, DocumentMask, ::testing::ValuesIn(backends()),
                         [](const auto& info) { return std::string(to_string(info.param)); });

}  // namespace
}  // namespace koios::testing
