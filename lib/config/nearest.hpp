// The nearest valid name to a mistyped one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace koios {

/// Fewest insertions, deletions, replacements and swaps of neighbours; upper and lower case are
/// equal.
int edit_distance(std::string_view a, std::string_view b);

/// The candidate at the smallest distance (the first of several), or empty where even that one
/// differs in more than half of the longer name.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace koios
