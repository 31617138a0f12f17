// Ranks that take the same samples: one of each group reads, and all have what they would have read
// themselves.
#include "data/sample_feed.hpp"

#include "data/data_loader.hpp"
#include "data/saved_position.hpp"
#include "fixtures.hpp"

namespace koios {
namespace {

using testing::ByteTokenizer;
using testing::numbered_documents;
using testing::TempFolder;

const ByteTokenizer kBytes;
constexpr std::int64_t kSeqLen = 16;

class Shared : public ::testing::Test {
 protected:
  /// Of data that only this process has.
  DataOptions options() const {
    DataOptions o;
    o.format = DataFormat::jsonl;
    o.path = file_;
    o.seq_len = kSeqLen;
    o.batch_size = 3;
    o.gradient_accumulation = 2;
    o.streams = 4;
    o.shuffle_window = 16;
    return o;
  }

  int argc_ = 0;
  char** argv_ = nullptr;
  MpiEnv mpi_{argc_, argv_};
  TempFolder folder_;
  std::string file_ = folder_.write("a.jsonl", numbered_documents(30, 40));
};

TEST_F(Shared, all_have_what_each_would_read) {
  const int pairs = (mpi_.size() + 1) / 2;
  const int pair = mpi_.rank() / 2;
  const SampleRanks ranks(mpi_, pair);
  const bool reads = mpi_.rank() % 2 == 0;
  EXPECT_EQ(ranks.sharers().rank(), mpi_.rank() % 2);
  EXPECT_EQ(ranks.reader(), reads ? mpi_.rank() : mpi_.rank() - 1);

  DataOptions shared = options();
  shared.ranks = &ranks;
  if (!reads) shared.path = "nowhere";
  const SequencePart half{2, mpi_.rank() % 2};
  DataLoader alone(options(), kBytes, pair, pairs, {}, half);
  DataLoader loader(shared, kBytes, pair, pairs, {}, half);
  EXPECT_EQ(loader.state(), alone.state());
  EXPECT_EQ(loader.streams(), 4);
  for (int i = 0; i < 40; ++i) {
    const Batch expected = alone.next();
    const Batch batch = loader.next();
    EXPECT_EQ(batch.first_sample, expected.first_sample);
    EXPECT_EQ(batch.tokens, expected.tokens) << "micro-batch " << i;
    EXPECT_EQ(batch.labels, expected.labels);
    EXPECT_EQ(batch.document_start, expected.document_start);
    EXPECT_EQ(batch.index.position, expected.index.position);
    EXPECT_EQ(loader.epoch(), alone.epoch());
    if (i % 2 == 0) continue;  // inside of a step
    EXPECT_EQ(loader.state(), alone.state());
  }
  EXPECT_GT(loader.epoch(), 0);

  // From where it stands, on other ranks.
  const SequenceState here = loader.state();
  const SampleRanks all(mpi_, 0);
  shared.ranks = &all;
  if (mpi_.rank() > 0) shared.path = "nowhere";
  DataLoader again(shared, kBytes, 0, 1, here);
  DataLoader again_alone(options(), kBytes, 0, 1, here);
  EXPECT_EQ(again.next().tokens, again_alone.next().tokens);
}

TEST_F(Shared, ends_whatever_is_under_way) {
  const SampleRanks ranks(mpi_, 0);
  DataOptions shared = options();
  shared.ranks = &ranks;
  for (const int taken : {0, 1, 5}) {
    for (const std::int64_t prefetch : {1, 4}) {
      shared.prefetch = prefetch;
      DataLoader loader(shared, kBytes, 0, 1);
      for (int i = 0; i < taken; ++i) loader.next();
    }
  }
}

TEST_F(Shared, a_state_survives_the_way_as_integers) {
  SequenceState state{7, 16, 0xfedcba9876543210, {{4, 9, {}}, {3, ~0ULL, {}}}, {500, 700}};
  state.sources[0].streams.resize(2);
  state.sources[0].streams[1].document.window_start.line = 41;
  state.sources[0].streams[1].samples = 3;
  EXPECT_EQ(from_integers(to_integers(state)), state);
}

}  // namespace
}  // namespace koios
