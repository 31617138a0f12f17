// Byte-pair encoding by a SentencePiece model, with the library's very ids at many times its rate.
//
// Merges only ever make pieces of the vocabulary. So where two neighbouring characters stand side
// by side in no piece, no merge crosses the place between them, and the text may be cut there: both
// parts are encoded as if alone. In Llama 2's vocabulary that is before every space that follows
// something else, around most punctuation, and between nearly all characters of scripts that it
// knows only letter by letter. What lies between two cuts is short and comes again and again, and
// its ids are remembered in a table of fixed size.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/sentencepiece_model.hpp"

namespace koios {

class BpeEncoder {
 public:
  /// Null where the model asks for something that this encoder does not do: another algorithm, a
  /// normalization of characters or spaces, no bytes for unknown characters, user-defined pieces.
  static std::unique_ptr<BpeEncoder> make(const SentencePieceModel& model);

  ~BpeEncoder();
  BpeEncoder(const BpeEncoder&) = delete;
  BpeEncoder& operator=(const BpeEncoder&) = delete;

  /// The ids of well-formed UTF-8. Thread-safe. A run of more than 256 KiB without any place to cut
  /// is cut all the same.
  std::vector<std::int32_t> encode(std::string_view text) const;

 private:
  struct Entry {
    std::int32_t id = 0;
    float score = 0;
  };
  struct Workspace;

  explicit BpeEncoder(const SentencePieceModel& model);

  bool joins(std::uint32_t left, std::uint32_t right) const;
  void remember_pairs(std::vector<std::uint64_t> pairs);
  const Entry* find(std::string_view piece) const;
  void encode_parts(Workspace& work, bool is_end, std::vector<std::int32_t>& ids) const;
  std::size_t encode_part(std::string_view part, Workspace& work, std::int32_t* ids) const;
  std::size_t merge(std::string_view part, Workspace& work, std::int32_t* ids) const;
  void push_pair(std::int32_t left, std::int32_t right, Workspace& work) const;
  std::unique_ptr<Workspace> borrow() const;

  bool add_dummy_prefix_;
  std::vector<std::string> texts_;  // what the keys of pieces_ point at; spaces are plain ones
  std::unordered_map<std::string_view, Entry> pieces_;
  std::array<std::int32_t, 256> byte_ids_{};

  static constexpr std::uint32_t kAscii = 128;
  std::bitset<kAscii * kAscii> ascii_pairs_;
  std::vector<std::uint64_t> other_pairs_;  // open addressing; 0: free

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_;  // one for each encode() that ran at once
};

}  // namespace koios
