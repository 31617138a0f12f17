// data/mixture: several datasets and the share of the samples that each has, written
//   DATASET:PATH:WEIGHT, DATASET:PATH:WEIGHT, ...
// Blanks beside : and , do not count; a comma in a path is written "\,".
#pragma once

#include <string>
#include <string_view>

#include "config/expand.hpp"
#include "config/run_config.hpp"
#include "config/values.hpp"

namespace koios {

/// An empty text has no parts.
Problem parse_value(std::string_view text, Mixture& mixture);
std::string show_value(const Mixture& mixture);
/// Every path.
Problem expand_value(Mixture& mixture, const Environment& environment);

}  // namespace koios
