// [activation_checkpoint] selective_ac_option: a number of blocks, or a class of operations.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "config/values.hpp"

namespace koios {

struct SelectiveOption {
  enum class Kind { blocks, op, op_half };
  Kind kind = Kind::blocks;
  std::int64_t every = 2;  // blocks: the last one of so many is recomputed

  auto operator<=>(const SelectiveOption&) const = default;
};

Problem parse_value(std::string_view text, SelectiveOption& value);
std::string show_value(const SelectiveOption& value);

template <>
inline std::string type_name<SelectiveOption>() {
  return "whole number above 0, op, op_half";
}

}  // namespace koios
