#include "data/sentencepiece_model.hpp"

#include <bit>
#include <cstring>
#include <utility>

namespace koios {
namespace {

static_assert(std::endian::native == std::endian::little);

/// One field of a protobuf message: a number for wire types 0, 1 and 5, bytes for 2.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;
  std::string_view bytes;
};

/// The fields of a message one after the other; is_good() turns false at the first malformed one.
class Fields {
 public:
  explicit Fields(std::string_view message) : rest_(message) {}

  bool next(Field& field) {
    if (rest_.empty() || !is_good_) return false;
    const std::uint64_t key = varint();
    field = {key >> 3, 0, {}};
    switch (key & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.value = fixed(4);
        break;
      default:
        is_good_ = false;
    }
    return is_good_;
  }

  bool is_good() const { return is_good_; }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::string_view byte = take(1);
      if (byte.empty()) return 0;
      const auto bits = static_cast<unsigned char>(byte[0]);
      value |= std::uint64_t{bits & 0x7FU} << shift;
      if (bits < 0x80) return value;
    }
    is_good_ = false;
    return 0;
  }

  std::uint64_t fixed(std::size_t size) {
    std::uint64_t value = 0;
    const std::string_view bytes = take(size);
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }

  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) {
      is_good_ = false;
      return {};
    }
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;
  bool is_good_ = true;
};

bool parse_piece(std::string_view message, SentencePieceModel::Piece& piece) {
  Fields fields(message);
  for (Field field; fields.next(field);) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2)
      piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    if (field.number == 3) piece.type = static_cast<SentencePieceModel::PieceType>(field.value);
  }
  return fields.is_good();
}

bool parse_trainer(std::string_view message, SentencePieceModel& model) {
  Fields fields(message);
  for (Field field; fields.next(field);) {
    if (field.number == 3)
      model.algorithm = static_cast<SentencePieceModel::Algorithm>(field.value);
    if (field.number == 24) model.whitespace_is_suffix = field.value != 0;
    if (field.number == 35) model.byte_fallback = field.value != 0;
  }
  return fields.is_good();
}

std::uint32_t word_at(std::string_view bytes, std::size_t index) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes.data() + 4 * index, sizeof word);
  return word;
}

/// Whether the library can look up any text in this map without leaving it. It is a double array
/// (darts-clone) behind its size in bytes, then strings that end in zeros; the library follows the
/// array's offsets and the strings' positions as they stand.
bool is_sound_character_map(std::string_view map) {
  if (map.empty()) return true;
  if (map.size() < 4) return false;
  const std::uint32_t array_bytes = word_at(map, 0);
  map.remove_prefix(4);
  constexpr std::uint32_t kBlockBytes = 256 * 4;  // a block has an entry for every byte
  if (array_bytes == 0 || array_bytes % kBlockBytes != 0 || array_bytes >= map.size()) return false;
  const std::string_view strings = map.substr(array_bytes);
  if (strings.back() != '\0') return false;
  const std::size_t entries = array_bytes / 4;
  for (std::size_t i = 0; i < entries; ++i) {
    const std::uint32_t entry = word_at(map, i);
    constexpr std::uint32_t kIsValue = 1U << 31;
    if ((entry & kIsValue) != 0) {
      if ((entry & ~kIsValue) >= strings.size()) return false;
      continue;
    }
    const std::uint32_t offset = (entry >> 10) << ((entry & (1U << 9)) >> 6);
    const std::size_t next = i ^ offset;
    if ((next | 0xFFU) >= entries) return false;
    const bool has_value = (entry & (1U << 8)) != 0;
    if (has_value && (word_at(map, next) & ~kIsValue) >= strings.size()) return false;
  }
  return true;
}

bool parse_normalizer(std::string_view message, SentencePieceModel& model) {
  Fields fields(message);
  for (Field field; fields.next(field);) {
    if (field.number == 2) {
      model.has_character_map = !field.bytes.empty();
      model.character_maps_are_sound &= is_sound_character_map(field.bytes);
    }
    if (field.number == 3) model.add_dummy_prefix = field.value != 0;
    if (field.number == 4) model.remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) model.escape_whitespaces = field.value != 0;
  }
  return fields.is_good();
}

}  // namespace

std::optional<SentencePieceModel> parse_sentencepiece_model(std::string_view bytes) {
  SentencePieceModel model;
  Fields fields(bytes);
  for (Field field; fields.next(field);) {
    bool is_good = true;
    if (field.number == 1) is_good = parse_piece(field.bytes, model.pieces.emplace_back());
    if (field.number == 2) is_good = parse_trainer(field.bytes, model);
    if (field.number == 3) is_good = parse_normalizer(field.bytes, model);
    if (field.number == 5) {  // the way back, from ids to text
      SentencePieceModel other;
      is_good = parse_normalizer(field.bytes, other);
      model.character_maps_are_sound &= other.character_maps_are_sound;
    }
    if (!is_good) return std::nullopt;
  }
  if (!fields.is_good()) return std::nullopt;
  return model;
}

}  // namespace koios
