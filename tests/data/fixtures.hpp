// What the tests of lib/data share: a folder that vanishes, a tokenizer one can compute by hand.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "data/record_reader.hpp"
#include "data/sample_sequence.hpp"
#include "data/tokenizer.hpp"

namespace koios::testing {

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "koios_data_XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path(const std::string& name = "") const {
    return name.empty() ? path_ : path_ + "/" + name;
  }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
    return path(name);
  }

 private:
  std::string path_;
};

/// A token a byte: id = byte + 3, bos 1, eos 2.
class ByteTokenizer : public Tokenizer {
 public:
  std::int64_t vocab_size() const override { return 259; }
  std::int32_t bos() const override { return 1; }
  std::int32_t eos() const override { return 2; }
  std::uint64_t hash() const override { return 17; }
  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c) + 3);
    return ids;
  }
  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    for (const std::int32_t id : ids) {
      text += id == 1 ? '<' : id == 2 ? '>' : static_cast<char>(id - 3);
    }
    return text;
  }
};

/// The most memory that this process has had since forget_peak_memory().
inline std::int64_t peak_memory_mib() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word && word != "VmHWM:") {
  }
  std::int64_t kib = 0;
  status >> kib;
  return kib / 1024;
}
inline void forget_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

/// What furthest() makes of the ranks' states, here of loaders in one process.
inline SequenceState furthest_of(const std::vector<SequenceState>& of_ranks) {
  SequenceState result = of_ranks.front();
  for (const SequenceState& other : of_ranks) {
    EXPECT_EQ(other.next_sample, result.next_sample);
    for (std::size_t i = 0; i < result.sources.size(); ++i) {
      auto& streams = result.sources[i].streams;
      for (std::size_t k = 0; k < streams.size(); ++k) {
        const StreamState& there = other.sources[i].streams.at(k);
        if (there.samples > streams[k].samples) streams[k] = there;
      }
    }
  }
  return result;
}

/// Documents "d0", "d1", ... each with `extra` more letters, as JSON lines.
inline std::string numbered_documents(int count, int extra = 0) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    lines += cat("{\"text\": \"d", i, " ", std::string((i * 7) % (extra + 1), 'x'), "\"}\n");
  }
  return lines;
}

inline std::vector<Document> all_documents(RecordReader reader) {
  std::vector<Document> documents;
  for (Document d; reader.next(d);) documents.push_back(d);
  return documents;
}

/// The message of the UserError that `action` throws; fails the test where it throws none.
template <class Action>
std::string user_error(Action action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no UserError was thrown";
  return "";
}

#define EXPECT_CONTAINS(text, part) \
  EXPECT_NE(std::string(text).find(part), std::string::npos) << "in: " << (text)

}  // namespace koios::testing
