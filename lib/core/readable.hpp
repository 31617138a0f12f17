// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace koios {

/// "0.087 GiB"
std::string gib(std::int64_t bytes);
/// "0.58 ms", "3.39 s", "4.2 hours", "49.4 days"
std::string duration(double seconds);
/// "6,738,415,616"
std::string with_commas(std::int64_t value);

}  // namespace koios
