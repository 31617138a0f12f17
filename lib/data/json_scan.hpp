// A few strings of a JSON object. Nothing else of it is kept, so that the memory is that of those
// strings, whatever else the object holds; values nested too deep are refused. RFC 8259.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace koios {

/// The values of the fields `names` of the object that `text`, which is well-formed UTF-8, consists
/// of; of a field that comes twice the last one counts. None where it is no such object or a field
/// is missing or no string: `why` is then ": ..." with the byte of the `place`, which begins
/// `before` bytes in front of `text`.
std::optional<std::vector<std::string>> json_strings(std::string_view text,
                                                     std::span<const std::string_view> names,
                                                     std::string_view place, std::size_t before,
                                                     std::string& why);

}  // namespace koios
