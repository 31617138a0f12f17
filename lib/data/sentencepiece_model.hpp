// What a SentencePiece model file says, as far as BpeEncoder needs it. The file is a protobuf
// message (sentencepiece_model.proto); Debian ships no header for it, so its few fields are read
// by their numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace koios {

struct SentencePieceModel {
  // The numbers are those of the file.
  enum class PieceType {
    normal = 1,
    unknown = 2,
    control = 3,
    user_defined = 4,
    unused = 5,
    byte = 6
  };
  enum class Algorithm { unigram = 1, bpe = 2, word = 3, character = 4 };

  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::normal;
  };

  std::vector<Piece> pieces;
  Algorithm algorithm = Algorithm::unigram;
  bool byte_fallback = false;
  bool whitespace_is_suffix = false;
  bool has_character_map = false;  // a normalization beyond that of spaces
  bool character_maps_are_sound = true;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

/// None where the bytes are not such a message.
std::optional<SentencePieceModel> parse_sentencepiece_model(std::string_view bytes);

}  // namespace koios
