// Exactly once: an epoch of streams, token files and mixtures, read by 1 to 8 ranks with restarts
// in between on other numbers of ranks, holds every sample once and in the same order as one rank
// that reads it through.
#include <algorithm>
#include <map>
#include <set>

#include "data/data_loader.hpp"
#include "fixtures.hpp"
#include "token_file_fixture.hpp"

namespace koios {
namespace {

using testing::ByteTokenizer;
using testing::numbered_documents;
using testing::TempFolder;
using testing::user_error;
using testing::write_token_file;

const ByteTokenizer kBytes;
constexpr std::int64_t kSeqLen = 7;
constexpr std::int64_t kGlobalBatch = 840;  // divides by 1 .. 8

using Sample = std::vector<std::int32_t>;

class ExactlyOnce : public ::testing::Test {
 protected:
  DataOptions options(DataFormat format, const std::string& path) const {
    DataOptions o;
    o.format = format;
    o.path = path;
    o.seq_len = kSeqLen;
    o.seed = 5;
    o.streams = 12;
    o.shuffle_window = 16;
    return o;
  }

  /// `steps` steps of `dp` ranks from `state` on, which then is where they end.
  static std::map<std::int64_t, Sample> run(DataOptions o, int dp, int steps,
                                            SequenceState& state) {
    o.batch_size = kGlobalBatch / dp;
    std::map<std::int64_t, Sample> samples;
    std::vector<SequenceState> ends;
    for (int rank = 0; rank < dp; ++rank) {
      DataLoader loader(o, kBytes, rank, dp, state);
      for (int step = 0; step < steps; ++step) {
        const Batch batch = loader.next();
        for (std::int64_t i = 0; i < batch.sequences; ++i) {
          const auto begin = batch.tokens.begin() + i * kSeqLen;
          Sample sample(begin, begin + kSeqLen);
          sample.push_back(batch.labels[static_cast<std::size_t>((i + 1) * kSeqLen - 1)]);
          EXPECT_TRUE(samples.emplace(batch.first_sample + i, sample).second)
              << "sample " << batch.first_sample + i << " came twice";
        }
      }
      ends.push_back(loader.state());
    }
    state = testing::furthest_of(ends);
    return samples;
  }

  /// Many short runs, each of another number of ranks, against one rank without a break.
  static std::vector<Sample> expect_same_in_pieces(const DataOptions& o) {
    SequenceState state;
    const auto whole = run(o, 1, 12, state);
    const SequenceState end = state;
    state = {};
    std::map<std::int64_t, Sample> pieces;
    for (const auto& [dp, steps] :
         {std::pair{1, 1}, {8, 2}, {3, 1}, {4, 2}, {2, 1}, {7, 2}, {5, 1}, {6, 1}, {8, 1}}) {
      pieces.merge(run(o, dp, steps, state));
    }
    EXPECT_EQ(pieces, whole);
    EXPECT_EQ(state.next_sample, end.next_sample);
    EXPECT_EQ(whole.size(), 12u * kGlobalBatch);
    EXPECT_EQ(whole.begin()->first, 0);
    EXPECT_EQ(whole.rbegin()->first, 12 * kGlobalBatch - 1);
    std::vector<Sample> in_order;
    for (const auto& [id, sample] : whole) in_order.push_back(sample);
    return in_order;
  }

  TempFolder folder_;
};

/// A file of `count` tokens, the i-th of which is i mod 251 in a vocabulary of 259; documents
/// of 10.
std::string counted_tokens(const TempFolder& folder, const std::string& name, std::int64_t count) {
  std::vector<std::vector<std::int32_t>> documents;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i % 10 == 0) documents.emplace_back();
    documents.back().push_back(static_cast<std::int32_t>(i % 251));
  }
  return write_token_file(folder.path(name), kBytes, documents);
}

TEST_F(ExactlyOnce, streams) {
  const auto o = options(DataFormat::jsonl, folder_.write("a.jsonl", numbered_documents(3000, 30)));
  const auto samples = expect_same_in_pieces(o);
  // Whole documents of the first epoch, from the streams put together again.
  std::vector<std::string> streams(12);
  for (std::size_t i = 0; i < samples.size(); ++i) streams[i % 12] += kBytes.decode(samples[i]);
  std::map<std::string, int> seen;
  for (std::string text : streams) {
    for (int document = 0; document < 3000 / 12; ++document) {
      const auto end = text.find('>');
      ASSERT_NE(end, std::string::npos) << "less than an epoch";
      ++seen[text.substr(1, text.find(' ') - 1)];
      text.erase(0, end + 1);
    }
  }
  EXPECT_EQ(seen.size(), 3000u);
  for (const auto& [document, count] : seen) EXPECT_EQ(count, 1) << document;
}

TEST_F(ExactlyOnce, token_files) {
  // 251 and 8 have no common divisor, so that a window is known by its first token and its file.
  counted_tokens(folder_, "a.tokens", 8 * 200 + 5);
  counted_tokens(folder_, "b.tokens", 8 * 51 + 7);
  for (const bool shuffle : {true, false}) {
    auto o = options(DataFormat::tokens, folder_.path());
    o.shuffle = shuffle;
    const auto samples = expect_same_in_pieces(o);
    std::vector<std::vector<std::int32_t>> epochs;
    for (std::size_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<std::int32_t> firsts;
      for (std::size_t i = 0; i < 251; ++i) firsts.push_back(samples[epoch * 251 + i][0]);
      epochs.push_back(firsts);
      std::vector<std::int32_t> expected;
      for (std::int32_t i = 0; i < 200; ++i) expected.push_back(8 * i % 251);
      for (std::int32_t i = 0; i < 51; ++i) expected.push_back(8 * i % 251);
      EXPECT_EQ(firsts == expected, !shuffle);
      EXPECT_TRUE(std::ranges::is_permutation(firsts, expected)) << "epoch " << epoch;
    }
    EXPECT_EQ(epochs[0] == epochs[1], !shuffle);
  }
}

TEST_F(ExactlyOnce, mixtures_by_weight) {
  auto o = options(DataFormat::text, "");
  const auto jsonl = folder_.write("a.jsonl", numbered_documents(4000, 30));
  const auto text = folder_.write("b.txt", std::string(5000, 'y') + "\n\n" + "zzzz\n");
  const auto tokens = counted_tokens(folder_, "c.tokens", 10000);
  o.mixture = {{DataFormat::jsonl, jsonl, 3},
               {DataFormat::text, text, 0.5},
               {DataFormat::tokens, tokens, 1.5}};
  const auto samples = expect_same_in_pieces(o);
  std::array<double, 3> taken = {};
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const std::string decoded = kBytes.decode(samples[i]);
    const bool is_counted =
        samples[i][1] - samples[i][0] == 1 && samples[i][2] - samples[i][1] == 1;
    const bool is_text = decoded.find_first_of("yz") != std::string::npos;
    taken[is_counted ? 2 : is_text ? 1 : 0] += 1;
    const double all = static_cast<double>(i + 1);
    if (i > 100) {  // a document's end hides few of them
      EXPECT_NEAR(taken[1], 0.1 * all, 0.01 * all + 3);
    }
  }
  EXPECT_NEAR(taken[2] / static_cast<double>(samples.size()), 0.3, 0.02);
}

TEST_F(ExactlyOnce, other_data_is_refused) {
  auto o = options(DataFormat::tokens, counted_tokens(folder_, "a.tokens", 1000));
  SequenceState state;
  run(o, 2, 1, state);
  const auto error = [&] { return user_error([&] { DataLoader(o, kBytes, 0, 1, state); }); };
  o.batch_size = 1;
  counted_tokens(folder_, "a.tokens", 1001);
  EXPECT_CONTAINS(error(), "other token files: the data has changed");
  counted_tokens(folder_, "a.tokens", 1000);
  DataLoader(o, kBytes, 0, 1, state);
  o.seq_len = 8;
  EXPECT_CONTAINS(error(), "training/seq_len");
  o.seq_len = kSeqLen;
  state.tokenizer_hash ^= 1;
  EXPECT_CONTAINS(error(), "another tokenizer");
}

}  // namespace
}  // namespace koios
