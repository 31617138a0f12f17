// JSON of the run folder, which another than Koios may have put there.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace koios {

/// Discarded where it is no JSON, or nested deeper than anything a run writes: walking through that
/// would use up the stack.
nlohmann::ordered_json parse_shallow_json(std::string_view text);

}  // namespace koios
