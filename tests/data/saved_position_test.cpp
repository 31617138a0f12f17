// Positions out of checkpoints, which may hold anything.
#include "data/saved_position.hpp"

#include <limits>

#include "fixtures.hpp"

namespace koios {
namespace {

using testing::ByteTokenizer;
using testing::TempFolder;
using testing::user_error;

const ByteTokenizer kBytes;
constexpr std::int64_t kSeqLen = 9;

class SavedPositions : public ::testing::Test {
 protected:
  SavedPositions() {
    options_.mixture = {
        {DataFormat::jsonl, folder_.write("a.jsonl", testing::numbered_documents(100, 9)), 0.7},
        {DataFormat::jsonl, folder_.write("b.jsonl", testing::numbered_documents(50, 9)), 0.3}};
    options_.seq_len = kSeqLen;
    options_.streams = 4;
    SampleSequence sequence(options_, kBytes);
    take(sequence, 30);
    saved_ = save_position(sequence.state());
    rest_ = take(sequence, 10);
  }

  static std::string take(SampleSequence& sequence, int samples) {
    std::vector<std::int32_t> sample(kSeqLen + 1);
    std::vector<std::int32_t> starts(sample.size());
    std::string text;
    for (int i = 0; i < samples; ++i) {
      sequence.take(sample, starts);
      text += kBytes.decode(sample);
    }
    return text;
  }

  /// Goes on from there, as a run does.
  std::string go_on(const SavedPosition& saved) {
    SampleSequence sequence(options_, kBytes);
    sequence.restore(restore_position(saved));
    return take(sequence, 10);
  }

  TempFolder folder_;
  DataOptions options_;
  SavedPosition saved_;
  std::string rest_;
};

TEST_F(SavedPositions, go_on_exactly) { EXPECT_EQ(go_on(saved_), rest_); }

TEST_F(SavedPositions, no_integer_can_harm) {
  constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (const auto& [name, list] : saved_) {
    for (const std::size_t at : {std::size_t{0}, list.size() - 1}) {
      for (const std::int64_t value : {kLeast, std::int64_t{-1}, std::int64_t{1} << 50, kMost}) {
        SavedPosition changed = saved_;
        changed[name][at] = value;
        // Two integers follow from the rest or are compared with no limit, so that others are right
        // as well: the line, for messages, and what may come after the stream's epoch.
        if (name == "window_start_line" && value == std::int64_t{1} << 50) continue;
        if ((name == "stream_epoch" || name == "stream_window" || name == "window_start_record") &&
            value == std::int64_t{1} << 50) {
          try {
            go_on(changed);
          } catch (const UserError&) {
          }
          continue;
        }
        const std::string message = user_error([&] { go_on(changed); });
        EXPECT_LT(message.size(), 300u) << name << " = " << value << ": " << message;
      }
    }
  }
}

TEST_F(SavedPositions, lists_fit_each_other) {
  for (const auto& [name, list] : saved_) {
    SavedPosition changed = saved_;
    changed[name].push_back(0);
    EXPECT_CONTAINS(user_error([&] { go_on(changed); }), "the saved position in the data is");
    changed[name].clear();
    EXPECT_CONTAINS(user_error([&] { go_on(changed); }), "the saved position in the data is");
    changed.erase(name);
    EXPECT_CONTAINS(user_error([&] { go_on(changed); }), "lacks " + name);
  }
  SavedPosition changed = saved_;
  ++changed["stream_samples"][1];
  EXPECT_CONTAINS(user_error([&] { go_on(changed); }), "stream 1 of 4 has given");
  changed = saved_;
  ++changed["source_samples"][0];
  EXPECT_CONTAINS(user_error([&] { go_on(changed); }),
                  "next_sample is 30, the datasets have given 31");
  changed = saved_;
  changed["source_samples"] = {30, 0};
  EXPECT_CONTAINS(user_error([&] { go_on(changed); }), "has given 30 of 30 samples, which is not");
}

}  // namespace
}  // namespace koios
