// Order, packing and position: the one logical sequence of samples.
#include "data/sample_sequence.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <new>
#include <set>

#include "data/saved_position.hpp"
#include "fixtures.hpp"

namespace koios {
namespace {

using testing::ByteTokenizer;
using testing::numbered_documents;
using testing::TempFolder;
using testing::user_error;

const ByteTokenizer kBytes;

DataOptions jsonl_options(const std::string& path, std::int64_t seq_len) {
  DataOptions options;
  options.format = DataFormat::jsonl;
  options.path = path;
  options.seq_len = seq_len;
  return options;
}

std::string take(SampleSequence& sequence, std::int64_t seq_len) {
  std::vector<std::int32_t> sample(static_cast<std::size_t>(seq_len + 1));
  std::vector<std::int32_t> document_start(sample.size());
  sequence.take(sample, document_start);
  return kBytes.decode(sample);
}

std::vector<std::string> take(SampleSequence& sequence, std::int64_t seq_len, int count) {
  std::vector<std::string> samples;
  for (int i = 0; i < count; ++i) samples.push_back(take(sequence, seq_len));
  return samples;
}

/// The documents a stream gives, by their text.
std::vector<std::string> take_documents(DocumentStream& stream, int count) {
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i, stream.advance()) texts.push_back(stream.current().text);
  return texts;
}

TEST(Packing, pieces_run_on_across_documents_and_epochs) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a.jsonl",
                                            "{\"text\": \"abc\"}\n{\"text\": \"\"}\n"
                                            "{\"text\": \"defgh\"}\n"),
                               4);
  options.shuffle = false;
  SampleSequence sequence(options, kBytes);
  // One epoch is "<abc><><defgh>", 14 tokens; samples take 5 and overlap in none.
  EXPECT_EQ(take(sequence, 4, 6),
            (std::vector<std::string>{"<abc>", "<><de", "fgh><", "abc><", "><def", "gh><a"}));
  EXPECT_EQ(sequence.next_sample(), 6);
  EXPECT_EQ(sequence.epoch(), 2);
}

// Samples 2 to 5 begin inside of a document.
TEST(Packing, each_token_says_where_its_document_begins) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a.jsonl",
                                            "{\"text\": \"abc\"}\n{\"text\": \"\"}\n"
                                            "{\"text\": \"defgh\"}\n"),
                               4);
  options.shuffle = false;
  SampleSequence sequence(options, kBytes);
  std::vector<std::int32_t> sample(5), start(5);
  using Starts = std::vector<std::int32_t>;
  const std::vector<std::pair<std::string, Starts>> expected = {
      {"<abc>", {0, 0, 0, 0, 0}}, {"<><de", {0, 0, 2, 2, 2}}, {"fgh><", {0, 0, 0, 0, 4}},
      {"abc><", {0, 0, 0, 0, 4}}, {"><def", {0, 1, 1, 1, 1}}, {"gh><a", {0, 0, 0, 3, 3}}};
  for (const auto& [text, starts] : expected) {
    sequence.take(sample, start);
    EXPECT_EQ(kBytes.decode(sample), text);
    EXPECT_EQ(start, starts) << text;
  }
}

// With bos before each document and nowhere else, a document begins where the last bos was.
TEST(Packing, documents_begin_at_bos_in_every_stream_and_after_a_restore) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a", numbered_documents(50, 20)), 16);
  options.streams = 3;
  options.shuffle_window = 4;
  SampleSequence sequence(options, kBytes);
  std::vector<std::int32_t> sample(17), start(17);
  for (int i = 0; i < 200; ++i) {
    if (i % 7 == 3) {
      const SequenceState state = sequence.state();
      sequence = SampleSequence(options, kBytes);
      sequence.restore(state);
    }
    sequence.take(sample, start);
    std::int32_t begin = 0;
    for (std::size_t t = 0; t < sample.size(); ++t) {
      if (sample[t] == kBytes.bos()) begin = static_cast<std::int32_t>(t);
      ASSERT_EQ(start[t], begin) << "sample " << i << ", token " << t;
    }
  }
}

TEST(Packing, a_document_longer_than_many_samples) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a.jsonl", "{\"text\": \"0123456789\"}\n"), 2);
  SampleSequence sequence(options, kBytes);
  EXPECT_EQ(take(sequence, 2, 5), (std::vector<std::string>{"<01", "234", "567", "89>", "<01"}));
}

TEST(Order, every_document_once_an_epoch_whatever_the_windows) {
  const TempFolder folder;
  const std::vector<std::string> files = {folder.write("a", numbered_documents(37)),
                                          folder.write("b", "{\"text\": \"only in b\"}\n")};
  for (const std::int64_t streams : {1, 2, 5, 38}) {
    for (const std::int64_t window : {1, 3, 8, 1000}) {
      std::map<std::string, int> seen;
      for (std::int64_t k = 0; k < streams; ++k) {
        DocumentStream stream(RecordReader(DataFormat::jsonl, files),
                              {k, streams, 1, true, window});
        while (stream.position().epoch < 3) {
          ++seen[stream.current().text];
          stream.advance();
        }
      }
      ASSERT_EQ(seen.size(), 38u) << streams << " streams, window " << window;
      for (const auto& [text, count] : seen) EXPECT_EQ(count, 3) << text;
    }
  }
}

TEST(Order, a_window_ends_when_it_is_large) {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 3; ++i) {
    lines += cat("{\"text\": \"", std::string(9 << 20, static_cast<char>('a' + i)), "\"}\n");
  }
  DocumentStream stream(RecordReader(DataFormat::jsonl, {folder.write("a", lines)}), {});
  std::vector<std::int64_t> windows;
  std::set<char> letters;
  for (int i = 0; i < 3; ++i, stream.advance()) {
    windows.push_back(stream.position().window);
    letters.insert(stream.current().text[0]);
  }
  EXPECT_EQ(windows, (std::vector<std::int64_t>{0, 0, 1}));
  EXPECT_EQ(letters.size(), 3u);
}

TEST(Order, shuffles_inside_of_windows_and_anew_each_epoch) {
  const TempFolder folder;
  const auto file = folder.write("a", numbered_documents(40));
  DocumentStream stream(RecordReader(DataFormat::jsonl, {file}), {0, 1, 7, true, 20});
  auto first = take_documents(stream, 40);
  auto second = take_documents(stream, 40);
  EXPECT_NE(first, second);
  DocumentStream plain(RecordReader(DataFormat::jsonl, {file}), {0, 1, 7, false, 20});
  const auto published = take_documents(plain, 40);
  EXPECT_NE(first, published);
  for (auto* order : {&first, &second}) {
    for (const int begin : {0, 20}) {
      EXPECT_TRUE(std::is_permutation(order->begin() + begin, order->begin() + begin + 20,
                                      published.begin() + begin));
    }
  }
  for (int i = 0; i < 40; ++i) EXPECT_EQ(published[i], cat("d", i, " "));
}

TEST(Order, is_a_function_of_the_seed) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a", numbered_documents(200, 30)), 64);
  const auto samples = [&](std::uint64_t seed) {
    options.seed = seed;
    SampleSequence sequence(options, kBytes);
    return take(sequence, 64, 100);
  };
  EXPECT_EQ(samples(5), samples(5));
  EXPECT_NE(samples(5), samples(6));
}

TEST(Order, without_shuffle_the_published_one_in_a_single_stream) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a", numbered_documents(3)), 17);
  options.shuffle = false;
  SampleSequence sequence(options, kBytes);
  EXPECT_EQ(sequence.streams(), 1);
  EXPECT_EQ(take(sequence, 17), "<d0 ><d1 ><d2 ><d0");
}

TEST(Order, streams_take_turns) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a",
                                            "{\"text\": \"aaaa\"}\n{\"text\": \"bbbb\"}\n"
                                            "{\"text\": \"cccc\"}\n"),
                               2);
  SampleSequence sequence(options, kBytes);
  EXPECT_EQ(sequence.streams(), 3);  // not 8: there are but three documents
  EXPECT_EQ(take(sequence, 2, 6),
            (std::vector<std::string>{"<aa", "<bb", "<cc", "aa>", "bb>", "cc>"}));
  EXPECT_EQ(sequence.epoch(), 0);
  take(sequence, 2);
  EXPECT_EQ(sequence.epoch(), 1);
}

TEST(State, continues_exactly_from_every_sample) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a", numbered_documents(23, 12)), 16);
  options.streams = 3;
  options.shuffle_window = 4;
  SampleSequence whole(options, kBytes);
  std::vector<SequenceState> states;
  std::vector<std::string> samples;
  for (int i = 0; i < 60; ++i) {  // several epochs
    states.push_back(whole.state());
    samples.push_back(take(whole, 16));
  }
  ASSERT_GT(whole.epoch(), 2);
  SampleSequence again(options, kBytes);
  for (std::size_t i = samples.size(); i-- > 0;) {
    again.restore(states[i]);
    EXPECT_EQ(again.state(), states[i]);
    for (std::size_t j = i; j < std::min(i + 9, samples.size()); ++j) {
      ASSERT_EQ(take(again, 16), samples[j]) << "sample " << j << " restored at " << i;
      if (j + 1 < samples.size()) {
        ASSERT_EQ(again.state(), states[j + 1]);
      }
    }
  }
  again.restore({});
  EXPECT_EQ(take(again, 16), samples[0]);
}

TEST(State, skipping_is_taking) {
  const TempFolder folder;
  const auto options = jsonl_options(folder.write("a", numbered_documents(50, 9)), 10);
  SampleSequence taken(options, kBytes);
  SampleSequence skipped(options, kBytes);
  take(taken, 10, 37);
  for (int i = 0; i < 37; ++i) skipped.skip();
  EXPECT_EQ(take(taken, 10, 20), take(skipped, 10, 20));
  EXPECT_EQ(taken.state(), skipped.state());  // every stream was needed again
}

TEST(State, changed_data_or_streams_are_refused) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a", numbered_documents(20, 9)), 10);
  SampleSequence sequence(options, kBytes);
  take(sequence, 10, 9);
  SequenceState state = sequence.state();
  options.streams = 4;
  SampleSequence other(options, kBytes);
  EXPECT_CONTAINS(user_error([&] { other.restore(state); }), "data/streams");
  state.sources[0].streams[1].document.index = 50;
  sequence.restore(state);
  EXPECT_CONTAINS(user_error([&] { take(sequence, 10, 8); }), "the data has changed");
  state.sources[0].streams[1] = {{0, 0, 0, {}}, 1000, 0};
  sequence.restore(state);
  EXPECT_CONTAINS(user_error([&] { take(sequence, 10, 8); }), "the data has changed");
}

TEST(BadData, no_text_at_all) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a.txt", "\n  \n"), 8);
  options.format = DataFormat::text;
  EXPECT_EQ(user_error([&] { SampleSequence(options, kBytes); }),
            options.path + ": no documents in 1 file (format text): there is no text to train on");
}

/// Bytes, but for texts that are "too large" for the memory.
class SmallTokenizer final : public ByteTokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view text) const override {
    if (text.starts_with("too large")) throw std::bad_alloc();
    return ByteTokenizer::encode(text);
  }
};

TEST(BadData, a_stream_of_which_nothing_fits_reads_the_next_ones) {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 12; ++i) {
    lines += cat("{\"text\": \"", i % 4 == 1 || i % 4 == 2 ? "too large" : "fits", i, "\"}\n");
  }
  auto options = jsonl_options(folder.write("a", lines), 10);
  options.streams = 4;
  BadData bad(OnBadData::skip);
  options.bad_data = &bad;
  const SmallTokenizer tokenizer;
  SampleSequence sequence(options, tokenizer);
  std::array<std::string, 4> streams;
  for (std::size_t i = 0; i < 40; ++i) streams[i % 4] += take(sequence, 10);
  const SequenceState state = sequence.state();
  EXPECT_EQ(state.sources[0].streams[1].document.moved, 2);
  EXPECT_EQ(state.sources[0].streams[2].document.moved, 1);
  const auto news = bad.take_news();
  EXPECT_EQ(news.texts.size(), 6u);
  ASSERT_EQ(news.notes.size(), 3u);
  EXPECT_EQ(news.notes.back(),
            "stream 2 of 4 has no document that can be used; it reads those of stream 3");
  for (const std::size_t stream : {1, 2, 3}) {
    for (const int i : {3, 7, 11}) EXPECT_CONTAINS(streams[stream], cat("<fits", i, ">"));
  }

  SampleSequence restored(options, tokenizer);
  restored.restore(restore_position(save_position(state)));
  EXPECT_EQ(take(sequence, 10, 40), take(restored, 10, 40));

  options.path = folder.write("b", "{\"text\": \"too large\"}\n{\"text\": \"too large\"}\n");
  SampleSequence none(options, tokenizer);
  EXPECT_CONTAINS(user_error([&] { take(none, 10, 1); }),
                  "b: no memory for the tokens of any document; the least is left of");
}

TEST(BadData, lies_where_it_likes_and_no_stream_is_without_a_document) {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 64; ++i)
    lines += i % 8 == 5 ? "{\"text\": null}\n" : cat("{\"text\": \"d", i, "\"}\n");
  auto options = jsonl_options(folder.write("a.jsonl", lines), 9);
  options.streams = 8;
  BadData bad(OnBadData::skip);
  options.bad_data = &bad;
  SampleSequence sequence(options, kBytes);
  EXPECT_EQ(sequence.streams(), 7);  // of eight, one would have nothing but bad ones
  std::string all;
  while (sequence.epoch() < 1) all += take(sequence, 9);
  for (int i = 0; i < 64; ++i) {
    const bool is_there = all.find(cat("<d", i, ">")) != std::string::npos;
    if (i % 8 == 5) {
      EXPECT_FALSE(is_there) << i;
    }
  }
  EXPECT_EQ(bad.count(), 8);
  bad.take_news();

  folder.write("a.jsonl", "{\"text\": null}\n{\"text\": 5}\n{\"text\": \"one\"}\n");
  EXPECT_EQ(SampleSequence(options, kBytes).streams(), 1);
  folder.write("a.jsonl", "{\"text\": null}\n{\"text\": 5}\n");
  EXPECT_CONTAINS(user_error([&] { SampleSequence(options, kBytes); }),
                  "a.jsonl: none of 2 documents (format jsonl) can be used");
}

TEST(BadData, without_end_comes_to_an_end) {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 1'000'001; ++i) lines += "{\n";
  auto options = jsonl_options(folder.write("a.jsonl", "{\"text\": \"one\"}\n" + lines), 9);
  BadData bad(OnBadData::skip);
  options.bad_data = &bad;
  EXPECT_CONTAINS(user_error([&] { SampleSequence(options, kBytes); }),
                  "1000000 documents in a row cannot be used, the last one: ");
}

TEST(BadData, a_tokenizer_larger_than_the_vocabulary) {
  const TempFolder folder;
  auto options = jsonl_options(folder.write("a", numbered_documents(3)), 8);
  options.vocab_size = 259;
  SampleSequence fits(options, kBytes);
  options.vocab_size = 258;
  EXPECT_CONTAINS(user_error([&] { SampleSequence(options, kBytes); }),
                  "the tokenizer has 259 pieces, the model's vocabulary only 258");
}

}  // namespace
}  // namespace koios
