#include "data/bpe_encoder.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/random.hpp"
#include "core/utf8.hpp"

namespace koios {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, a space in pieces
constexpr std::size_t kBytePieceSize = 6;                // of "<0x41>"
constexpr std::size_t kSlack = 8;                        // readable bytes behind the text
/// Text is taken in pieces of so many bytes, and a part between two cuts that is longer is cut here
/// all the same: this bounds the memory, some 100 bytes for each of these.
constexpr std::size_t kPieceBytes = 256 * 1024;

std::size_t character_bytes(char lead) {
  const auto c = static_cast<unsigned char>(lead);
  return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/// The character at the front of well-formed UTF-8; moves past it.
std::uint32_t next_character(const char*& at) {
  const auto byte = [&](int i) { return std::uint32_t{static_cast<unsigned char>(at[i])}; };
  const std::size_t size = character_bytes(*at);
  std::uint32_t character = byte(0);
  if (size == 2) character = ((byte(0) & 0x1FU) << 6) | (byte(1) & 0x3FU);
  if (size == 3) {
    character = ((byte(0) & 0x0FU) << 12) | ((byte(1) & 0x3FU) << 6) | (byte(2) & 0x3FU);
  }
  if (size == 4) {
    character = ((byte(0) & 0x07U) << 18) | ((byte(1) & 0x3FU) << 12) | ((byte(2) & 0x3FU) << 6) |
                (byte(3) & 0x3FU);
  }
  at += size;
  return character;
}

/// Appends `text` with its marks as spaces.
void append_as_spaces(std::string& result, std::string_view text) {
  while (true) {
    const auto mark = text.find(kSpaceMark);
    result.append(text.substr(0, mark));
    if (mark == std::string_view::npos) return;
    result += ' ';
    text.remove_prefix(mark + kSpaceMark.size());
  }
}

std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) {
  return (std::uint64_t{left} << 32) | right;
}

/// What is remembered of one part of text; a cache line.
struct alignas(64) Remembered {
  static constexpr std::size_t kMaxText = 30;
  static constexpr std::size_t kMaxIds = 8;

  std::uint8_t text_size = 0;
  std::uint8_t id_count = 0;
  char text[kMaxText] = {};
  std::int32_t ids[kMaxIds] = {};
};

/// `part` is no longer than kMaxText and followed by kSlack readable bytes.
std::uint64_t hash_of(std::string_view part) {
  std::uint64_t hash = part.size();
  for (std::size_t i = 0; i < part.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, part.data() + i, 8);
    const std::size_t rest = part.size() - i;
    if (rest < 8) word &= (std::uint64_t{1} << (8 * rest)) - 1;
    hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace

struct BpeEncoder::Workspace {
  static constexpr std::size_t kSlots = std::size_t{1} << 16;  // 4 MiB

  struct Symbol {
    std::string_view text;  // empty: merged into the one before
    std::int32_t previous, next;
  };
  struct Pair {
    float score;
    std::int32_t left, right;
    std::size_t size;
    /// The heap's top is the highest score, and of equal ones the leftmost.
    bool operator<(const Pair& o) const {
      return score < o.score || (score == o.score && left > o.left);
    }
  };

  std::vector<Remembered> remembered = std::vector<Remembered>(kSlots);
  std::string text;
  std::vector<std::int32_t> ids;
  std::vector<Symbol> symbols;
  std::vector<Pair> heap;
};

std::unique_ptr<BpeEncoder> BpeEncoder::make(const SentencePieceModel& model) {
  using enum SentencePieceModel::PieceType;
  if (model.algorithm != SentencePieceModel::Algorithm::bpe || !model.byte_fallback ||
      model.whitespace_is_suffix || model.has_character_map || model.remove_extra_whitespaces ||
      !model.escape_whitespaces) {
    return nullptr;
  }
  int bytes = 0;
  bool has_space = false;
  for (const auto& piece : model.pieces) {
    if (piece.type == user_defined || piece.type == unused || piece.text.empty()) return nullptr;
    if (piece.text.find(' ') != std::string::npos) return nullptr;
    if (find_invalid_utf8(piece.text) != std::string_view::npos) return nullptr;
    if (piece.type == byte && piece.text.size() == kBytePieceSize) ++bytes;
    has_space = has_space || (piece.type == normal && piece.text == kSpaceMark);
    // Text meets pieces of these kinds character by character only.
    if (piece.type != normal && character_bytes(piece.text[0]) == piece.text.size()) return nullptr;
  }
  if (bytes != 256 || !has_space) return nullptr;
  return std::unique_ptr<BpeEncoder>(new BpeEncoder(model));
}

BpeEncoder::BpeEncoder(const SentencePieceModel& model)
    : add_dummy_prefix_(model.add_dummy_prefix) {
  std::vector<std::uint64_t> pairs;
  texts_.reserve(model.pieces.size());  // the keys point into it
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const auto& piece = model.pieces[i];
    const auto id = narrow<std::int32_t>(i);
    if (piece.type == SentencePieceModel::PieceType::byte) {
      unsigned value = 0;
      std::from_chars(piece.text.data() + 3, piece.text.data() + piece.text.size(), value, 16);
      byte_ids_[value & 0xFFU] = id;
    }
    if (piece.type != SentencePieceModel::PieceType::normal) continue;
    append_as_spaces(texts_.emplace_back(), piece.text);
    pieces_.emplace(texts_.back(), Entry{id, piece.score});
    const std::string& text = texts_.back();
    const char* at = text.data();
    std::uint32_t left = next_character(at);
    while (at < text.data() + text.size()) {
      const std::uint32_t right = next_character(at);
      if (left < kAscii && right < kAscii) {
        ascii_pairs_.set(left * kAscii + right);
      } else {
        pairs.push_back(pair_key(left, right));
      }
      left = right;
    }
  }
  remember_pairs(std::move(pairs));
}

void BpeEncoder::remember_pairs(std::vector<std::uint64_t> pairs) {
  std::ranges::sort(pairs);
  const auto repeated = std::ranges::unique(pairs);
  pairs.erase(repeated.begin(), repeated.end());
  other_pairs_.assign(std::bit_ceil(2 * pairs.size() + 1), 0);
  const std::size_t last = other_pairs_.size() - 1;
  for (const std::uint64_t key : pairs) {
    auto slot = mix64(key) & last;
    while (other_pairs_[slot] != 0) slot = (slot + 1) & last;
    other_pairs_[slot] = key;
  }
}

bool BpeEncoder::joins(std::uint32_t left, std::uint32_t right) const {
  if (left < kAscii && right < kAscii) return ascii_pairs_[left * kAscii + right];
  const std::uint64_t key = pair_key(left, right);
  const std::size_t last = other_pairs_.size() - 1;  // a power of two less one
  for (auto slot = mix64(key) & last;; slot = (slot + 1) & last) {
    if (other_pairs_[slot] == key) return true;
    if (other_pairs_[slot] == 0) return false;
  }
}

BpeEncoder::~BpeEncoder() = default;

const BpeEncoder::Entry* BpeEncoder::find(std::string_view piece) const {
  const auto found = pieces_.find(piece);
  return found == pieces_.end() ? nullptr : &found->second;
}

std::unique_ptr<BpeEncoder::Workspace> BpeEncoder::borrow() const {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Workspace>();
  auto work = std::move(idle_.back());
  idle_.pop_back();
  return work;
}

std::vector<std::int32_t> BpeEncoder::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  if (text.empty()) return ids;
  auto work = borrow();
  work->text = add_dummy_prefix_ ? " " : "";
  while (!text.empty()) {
    const std::size_t size = utf8_cut(text, kPieceBytes);
    append_as_spaces(work->text, text.substr(0, size));
    text.remove_prefix(size);
    encode_parts(*work, text.empty(), ids);
  }
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(work));
  return ids;
}

/// Appends the ids of work.text, but of the last part only where it is the text's end or longer
/// than a piece; what has no ids yet is left in work.text.
void BpeEncoder::encode_parts(Workspace& work, bool is_end, std::vector<std::int32_t>& ids) const {
  const std::size_t size = work.text.size();
  work.text.append(kSlack, ' ');
  // No more ids than bytes; parts write kMaxIds at once.
  if (work.ids.size() < size + Remembered::kMaxIds) work.ids.resize(size + Remembered::kMaxIds);

  const char* begin = work.text.data();
  const char* const end = begin + size;
  std::int32_t* next = work.ids.data();
  const char* at = begin;
  std::uint32_t left = next_character(at);
  while (at < end) {
    const char* const cut = at;
    const std::uint32_t right = next_character(at);
    if (!joins(left, right)) {
      next += encode_part({begin, cut}, work, next);
      begin = cut;
    }
    left = right;
  }
  if (is_end || static_cast<std::size_t>(end - begin) >= kPieceBytes) {
    next += encode_part({begin, end}, work, next);
    begin = end;
  }
  ids.insert(ids.end(), work.ids.data(), next);
  work.text.resize(size);
  work.text.erase(0, static_cast<std::size_t>(begin - work.text.data()));
}

std::size_t BpeEncoder::encode_part(std::string_view part, Workspace& work,
                                    std::int32_t* ids) const {
  if (part.size() > Remembered::kMaxText) return merge(part, work, ids);
  Remembered& slot = work.remembered[hash_of(part) % Workspace::kSlots];
  if (slot.text_size == part.size() && std::memcmp(slot.text, part.data(), part.size()) == 0) {
    std::memcpy(ids, slot.ids, sizeof slot.ids);
    return slot.id_count;
  }
  const std::size_t count = merge(part, work, ids);
  if (count <= Remembered::kMaxIds) {
    slot.text_size = static_cast<std::uint8_t>(part.size());
    slot.id_count = static_cast<std::uint8_t>(count);
    std::ranges::copy(part, slot.text);
    std::copy_n(ids, count, slot.ids);
  }
  return count;
}

void BpeEncoder::push_pair(std::int32_t left, std::int32_t right, Workspace& work) const {
  if (left < 0 || right < 0) return;
  const std::string_view first = work.symbols[static_cast<std::size_t>(left)].text;
  const std::string_view second = work.symbols[static_cast<std::size_t>(right)].text;
  const std::string_view both(first.data(), first.size() + second.size());
  const Entry* entry = find(both);
  if (entry == nullptr) return;
  work.heap.push_back({entry->score, left, right, both.size()});
  std::push_heap(work.heap.begin(), work.heap.end());
}

/// The best-scored pair of neighbours becomes one symbol, until no pair is a piece (Sennrich,
/// Haddow, Birch 2016, in SentencePiece's order of pairs with equal scores).
std::size_t BpeEncoder::merge(std::string_view part, Workspace& work, std::int32_t* ids) const {
  auto& symbols = work.symbols;
  symbols.clear();
  work.heap.clear();
  for (std::size_t i = 0; i < part.size(); i += symbols.back().text.size()) {
    const auto index = static_cast<std::int32_t>(symbols.size());
    symbols.push_back({part.substr(i, character_bytes(part[i])), index - 1, index + 1});
  }
  symbols.back().next = -1;
  for (std::int32_t i = 1; i < std::ssize(symbols); ++i) push_pair(i - 1, i, work);

  while (!work.heap.empty()) {
    std::pop_heap(work.heap.begin(), work.heap.end());
    const Workspace::Pair best = work.heap.back();
    work.heap.pop_back();
    auto& left = symbols[static_cast<std::size_t>(best.left)];
    auto& right = symbols[static_cast<std::size_t>(best.right)];
    // A pair of which one was merged since it was found.
    if (left.text.empty() || right.text.empty() ||
        left.text.size() + right.text.size() != best.size) {
      continue;
    }
    left.text = {left.text.data(), best.size};
    right.text = {};
    left.next = right.next;
    if (right.next >= 0) symbols[static_cast<std::size_t>(right.next)].previous = best.left;
    push_pair(left.previous, best.left, work);
    push_pair(best.left, left.next, work);
  }

  std::int32_t* out = ids;
  for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    const std::string_view text = symbols[static_cast<std::size_t>(i)].text;
    if (const Entry* entry = find(text)) {
      *out++ = entry->id;
    } else {
      for (const char c : text) *out++ = byte_ids_[static_cast<unsigned char>(c)];
    }
  }
  return static_cast<std::size_t>(out - ids);
}

}  // namespace koios
