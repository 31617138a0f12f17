// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace koios {

/// "0.087 GiB"
std::string gib(std::int64_t bytes);
/// "0.58 ms", "3.39 s", "4.2 hours", "49.4 days"
std::string duration(double seconds);
/// "6,738,415,616"
std::string with_commas(std::int64_t value);
/// "1 rank", "2 ranks": of a noun whose plural is made by an s.
std::string counted(std::int64_t count, std::string_view noun);

}  // namespace koios
