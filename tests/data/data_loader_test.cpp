// How the sequence is dealt to ranks and micro-batches, and where a loader can be continued.
#include "data/data_loader.hpp"

#include "fixtures.hpp"

namespace koios {
namespace {

using testing::ByteTokenizer;
using testing::numbered_documents;
using testing::TempFolder;

const ByteTokenizer kBytes;
constexpr std::int64_t kSeqLen = 12;
constexpr std::int64_t kGlobalBatch = 84;

class Loader : public ::testing::Test {
 protected:
  DataOptions options(std::int64_t batch_size, std::int64_t accumulation) const {
    DataOptions o;
    o.format = DataFormat::jsonl;
    o.path = file_;
    o.seq_len = kSeqLen;
    o.batch_size = batch_size;
    o.gradient_accumulation = accumulation;
    o.seed = 3;
    o.streams = 5;
    o.shuffle_window = 16;
    return o;
  }

  /// The samples of `steps` steps in the order of their ids, from all ranks of a mesh.
  std::vector<std::int32_t> run(int dp, std::int64_t accumulation, int steps,
                                const SequenceState& start = {}) const {
    std::vector<std::int32_t> sequence(
        static_cast<std::size_t>(steps * kGlobalBatch * (kSeqLen + 1)), -1);
    const std::int64_t batch_size = kGlobalBatch / (dp * accumulation);
    for (int rank = 0; rank < dp; ++rank) {
      DataLoader loader(options(batch_size, accumulation), kBytes, rank, dp, start);
      for (std::int64_t i = 0; i < steps * accumulation; ++i) {
        const Batch b = loader.next();
        EXPECT_EQ(b.sequences, batch_size);
        EXPECT_EQ(std::ssize(b.tokens), batch_size * kSeqLen);
        EXPECT_EQ(std::ssize(b.labels), batch_size * kSeqLen);
        for (std::int64_t j = 0; j < batch_size; ++j) {
          auto at = sequence.begin() + (b.first_sample - start.next_sample + j) * (kSeqLen + 1);
          EXPECT_EQ(*at, -1) << "sample " << b.first_sample + j << " came twice";
          *at = b.tokens[static_cast<std::size_t>(j * kSeqLen)];
          for (std::int64_t t = 0; t < kSeqLen; ++t) {
            at[t + 1] = b.labels[static_cast<std::size_t>(j * kSeqLen + t)];
            EXPECT_EQ(at[t], b.tokens[static_cast<std::size_t>(j * kSeqLen + t)]);
          }
        }
      }
    }
    return sequence;
  }

  TempFolder folder_;
  std::string file_ = folder_.write("a.jsonl", numbered_documents(150, 40));
};

TEST_F(Loader, one_sequence_on_every_mesh) {
  SampleSequence direct(options(1, 1), kBytes);
  std::vector<std::int32_t> expected(3 * kGlobalBatch * (kSeqLen + 1));
  std::vector<std::int32_t> start(kSeqLen + 1);
  for (std::int64_t j = 0; j < 3 * kGlobalBatch; ++j) {
    direct.take(
        std::span(expected).subspan(static_cast<std::size_t>(j * (kSeqLen + 1)), kSeqLen + 1),
        start);
  }
  for (const int dp : {1, 2, 3, 4, 7}) EXPECT_EQ(run(dp, 1, 3), expected) << "dp " << dp;
}

TEST_F(Loader, accumulation_only_splits_a_ranks_part) {
  const auto expected = run(1, 1, 2);
  for (const std::int64_t accumulation : {2, 3, 6}) {
    for (const int dp : {1, 2, 7}) {
      EXPECT_EQ(run(dp, accumulation, 2), expected) << "dp " << dp << " x " << accumulation;
    }
  }
}

TEST_F(Loader, contiguous_parts_in_rank_order) {
  DataLoader loader(options(7, 3), kBytes, 2, 4);  // G = 84, 21 samples a rank
  std::vector<std::int64_t> firsts;
  for (int i = 0; i < 6; ++i) firsts.push_back(loader.next().first_sample);
  EXPECT_EQ(firsts, (std::vector<std::int64_t>{42, 49, 56, 126, 133, 140}));
}

TEST_F(Loader, the_ranks_states_together_continue_on_another_mesh) {
  const auto whole = run(1, 1, 5);
  std::vector<SequenceState> states;
  for (int rank = 0; rank < 3; ++rank) {
    DataLoader loader(options(14, 2), kBytes, rank, 3);
    for (int i = 0; i < 6; ++i) loader.next();
    states.push_back(loader.state());
    loader.next();
    EXPECT_THROW(loader.state(), InvariantError);  // inside of a step
  }
  const SequenceState state = testing::furthest_of(states);
  EXPECT_EQ(state.next_sample, 3 * kGlobalBatch);
  const std::vector<std::int32_t> rest(whole.begin() + 3 * kGlobalBatch * (kSeqLen + 1),
                                       whole.end());
  for (const int dp : {1, 4, 7}) EXPECT_EQ(run(dp, 1, 2, state), rest) << "dp " << dp;
  // A single rank's state is of the same place; what others read is only read again.
  for (const SequenceState& one : states) EXPECT_EQ(run(4, 1, 2, one), rest);
}

TEST_F(Loader, a_rank_reads_only_the_streams_it_takes_from) {
  auto o = options(2, 1);
  o.streams = 8;  // as many as sequences in a step of four ranks
  DataLoader loader(o, kBytes, 1, 4);
  for (int i = 0; i < 5; ++i) loader.next();
  const auto& streams = loader.state().sources[0].streams;
  for (std::size_t k = 0; k < 8; ++k) {
    EXPECT_EQ(streams[k].samples, k == 2 || k == 3 ? 5 : 0) << "stream " << k;
  }
}

TEST_F(Loader, counts_the_passes_over_the_data) {
  DataLoader loader(options(kGlobalBatch, 1), kBytes, 0, 1);
  EXPECT_EQ(loader.streams(), 5);
  EXPECT_EQ(loader.epoch(), 0);
  std::int64_t last = 0;
  for (int i = 0; i < 20; ++i) {
    loader.next();
    EXPECT_GE(loader.epoch(), last);
    last = loader.epoch();
  }
  EXPECT_GT(last, 1);
}

TEST_F(Loader, carries_the_index_of_its_tokens) {
  DataLoader loader(options(4, 1), kBytes, 0, 1);
  const Batch batch = loader.next();
  EXPECT_EQ(batch.index.position.size(), batch.tokens.size());
  EXPECT_EQ(batch.tokens[static_cast<std::size_t>(batch.index.position[0])],
            batch.index.segment_token[0]);
}

TEST_F(Loader, carries_where_documents_begin) {
  SampleSequence direct(options(1, 1), kBytes);
  std::vector<std::int32_t> sample(kSeqLen + 1), start(kSeqLen + 1);
  DataLoader loader(options(2, 2), kBytes, 0, 1);
  for (int i = 0; i < 20; ++i) {
    const Batch b = loader.next();
    std::vector<std::int32_t> expected;
    for (int j = 0; j < 2; ++j) {
      direct.take(sample, start);
      expected.insert(expected.end(), start.begin(), start.end() - 1);
    }
    EXPECT_EQ(b.document_start, expected) << "micro-batch " << i;
  }
}

TEST_F(Loader, an_error_in_the_data_reaches_the_caller) {
  auto o = options(1, 1);
  o.path = folder_.write("bad.jsonl", numbered_documents(30) + "{\"text\": 7}\n");
  o.streams = 1;
  DataLoader loader(o, kBytes, 0, 1);
  std::string message;
  for (int i = 0; i < 100 && message.empty(); ++i) {
    try {
      loader.next();
    } catch (const UserError& error) {
      message = error.what();
    }
  }
  EXPECT_CONTAINS(message, "bad.jsonl:31: the field \"text\" is a number");
}

}  // namespace
}  // namespace koios
