// The position in the data as named lists of integers, for a checkpoint: readable without Koios,
// and nothing of their meaning is known elsewhere.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/sample_sequence.hpp"

namespace koios {

using SavedPosition = std::map<std::string, std::vector<std::int64_t>>;

SavedPosition save_position(const SequenceState& state);
/// UserError where a list is missing or of another length than the others.
SequenceState restore_position(const SavedPosition& saved);

/// On its way between ranks.
std::string to_text(const SavedPosition& saved);
SavedPosition position_from_text(const std::string& text);

}  // namespace koios
