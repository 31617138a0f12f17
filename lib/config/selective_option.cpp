#include "config/selective_option.hpp"

namespace koios {

Problem parse_value(std::string_view text, SelectiveOption& value) {
  if (text == "op" || text == "op_half") {
    value = {text == "op" ? SelectiveOption::Kind::op : SelectiveOption::Kind::op_half, 1};
    return {};
  }
  std::int64_t every = 0;
  if (!parse_value(text, every).empty() || every < 1) {
    return "not op, op_half or a number of blocks above 0";
  }
  value = {SelectiveOption::Kind::blocks, every};
  return {};
}

std::string show_value(const SelectiveOption& value) {
  switch (value.kind) {
    case SelectiveOption::Kind::op:
      return "op";
    case SelectiveOption::Kind::op_half:
      return "op_half";
    case SelectiveOption::Kind::blocks:
      return show_value(value.every);
  }
  KOIOS_REQUIRE(false, "unknown option");
}

}  // namespace koios
