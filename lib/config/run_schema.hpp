// The declaration of every key of a run's deck.
#pragma once

#include "config/run_config.hpp"
#include "config/schema.hpp"

namespace koios {

/// Bound to `config`, whose present values become the defaults.
DeckSchema make_run_schema(RunConfig& config);

/// Keys of torchtitan that Koios replaced, and keys of Koios that do not work yet. A key goes live
/// by losing its line there and gaining one in run_schema.cpp.
const std::vector<AbsentKey>& absent_keys();

}  // namespace koios
