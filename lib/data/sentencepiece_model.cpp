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

bool parse_normalizer(std::string_view message, SentencePieceModel& model) {
  Fields fields(message);
  for (Field field; fields.next(field);) {
    if (field.number == 2) model.has_character_map = !field.bytes.empty();
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
    if (!is_good) return std::nullopt;
  }
  if (!fields.is_good()) return std::nullopt;
  return model;
}

}  // namespace koios
