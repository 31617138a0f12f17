// Positions out of checkpoints, which may hold anything.
#include "data/saved_position.hpp"

#include <iterator>
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

/// With the checksum of what it says, as by somebody who knows of it.
SavedPosition sealed(SavedPosition changed) {
  changed.erase("position_check");
  changed["position_check"] = {static_cast<std::int64_t>(hash_of(changed))};
  return changed;
}

/// As checkpoints were before they had these.
SavedPosition of_before(SavedPosition saved) {
  for (const char* name : {"position_check", "window_text", "stream_moved"}) saved.erase(name);
  return saved;
}

TEST_F(SavedPositions, go_on_exactly) {
  EXPECT_EQ(go_on(saved_), rest_);
  EXPECT_EQ(go_on(of_before(saved_)), rest_);
}

TEST_F(SavedPositions, no_integer_changes_unnoticed) {
  for (const auto& [name, list] : saved_) {
    for (std::size_t at = 0; at < list.size(); ++at) {
      for (const std::int64_t delta : {-1, 1, 4}) {
        SavedPosition changed = saved_;
        changed[name][at] += delta;
        EXPECT_CONTAINS(user_error([&] { go_on(changed); }), "its integers do not have their");
      }
    }
  }
}

TEST_F(SavedPositions, no_integer_can_harm) {
  constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (const auto& [name, list] : of_before(saved_)) {
    for (const std::size_t at : {std::size_t{0}, list.size() - 1}) {
      for (const std::int64_t value : {kLeast, std::int64_t{-1}, std::int64_t{1} << 50, kMost}) {
        SavedPosition changed = of_before(saved_);
        changed[name][at] = value;
        for (const SavedPosition& saved : {changed, sealed(changed)}) {
          const std::string message = user_error([&] { go_on(saved); });
          EXPECT_LT(message.size(), 400u) << name << " = " << value << ": " << message;
        }
      }
    }
  }
}

TEST_F(SavedPositions, are_compared_with_the_data_and_the_streams) {
  options_.shuffle_window = 3;
  options_.mixture.resize(1);
  SampleSequence sequence(options_, kBytes);
  take(sequence, 40);
  const SavedPosition saved = save_position(sequence.state());
  ASSERT_GT(saved.at("stream_window")[1], 0);
  const auto refused = [&](const std::string& name, std::int64_t value) {
    SavedPosition changed = saved;
    changed[name][1] = value;
    return user_error([&] { go_on(sealed(changed)); });
  };
  EXPECT_CONTAINS(refused("stream_epoch", 401), "stream_epoch of stream 1 of 4 is 401");
  EXPECT_CONTAINS(refused("stream_token_offset", 401), "it has given 10 samples of 10 tokens");
  EXPECT_CONTAINS(refused("stream_index", 3), "stream_index of stream 1 of 4 is 3, a window has 3");
  EXPECT_CONTAINS(refused("stream_window", 0), "the first window starts at 0");
  EXPECT_CONTAINS(refused("stream_moved", 4), "there are no more streams");
  EXPECT_CONTAINS(refused("stream_moved", 1), "where no window of it starts");
  const std::int64_t record = saved.at("window_start_record")[1];
  EXPECT_CONTAINS(refused("window_start_record", record + 1), "where no window of it starts");
  EXPECT_CONTAINS(refused("window_start_record", 2), "where no window of it starts");
  EXPECT_CONTAINS(refused("window_start_file", 1), "in file 2 of 1");
  EXPECT_CONTAINS(refused("window_start_byte", 1 << 20), "a.jsonl has ");
  EXPECT_CONTAINS(refused("window_start_byte", 0), "where no window of it starts");
  EXPECT_CONTAINS(refused("window_start_line", 1 << 20), "where no window of it starts");
  // What the documents themselves tell, before any of them is used.
  EXPECT_CONTAINS(refused("window_text", 12345), "these documents are not those that were there");
  const std::int64_t byte = saved.at("window_start_byte")[1];
  EXPECT_CONTAINS(refused("window_start_byte", byte - 3), "these documents are not those");
}

TEST_F(SavedPositions, the_documents_around_them_are_compared) {
  std::string text = testing::numbered_documents(2000, 9);
  options_.mixture = {{DataFormat::jsonl, folder_.write("large.jsonl", text), 1}};
  options_.shuffle_window = 50;
  SampleSequence sequence(options_, kBytes);
  take(sequence, 1500);
  saved_ = save_position(sequence.state());
  // Neither the size changes nor what lies at the ends of the file.
  const std::size_t end = text.size() - 5000;
  for (std::size_t at = text.find(" x", 5000); at < end; at = text.find(" x", at))
    text[at + 1] = 'y';
  folder_.write("large.jsonl", text);
  const std::string message = user_error([&] { go_on(saved_); });
  EXPECT_CONTAINS(message, "large.jsonl:");
  EXPECT_CONTAINS(message, "these documents are not those that were there: the data has changed");
}

TEST_F(SavedPositions, lists_fit_each_other) {
  saved_ = of_before(saved_);
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
