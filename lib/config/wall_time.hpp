// [job] walltime: a length of time as Slurm writes it.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "config/values.hpp"

namespace koios {

struct WallTime {
  std::int64_t seconds = 0;  // 0: no limit

  auto operator<=>(const WallTime&) const = default;
};

/// minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS; 0 is no limit.
Problem parse_value(std::string_view text, WallTime& value);
std::string show_value(const WallTime& value);

template <>
inline std::string type_name<WallTime>() {
  return "minutes, MM:SS, HH:MM:SS or D-HH:MM:SS";
}

}  // namespace koios
