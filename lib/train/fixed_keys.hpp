// What a saved file must agree in with the deck in force: one list of keys, for a run that is
// resumed and for one that starts from somebody's weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/head.hpp"
#include "config/deck_difference.hpp"

namespace koios {

struct RunDifferences {
  std::vector<DeckDifference> fixed;  // it would be another run
  std::vector<DeckDifference> free;   // worth a word
};

/// Of a run's checkpoint: it must continue as it was.
RunDifferences compare_run(const CheckpointHead& head, const std::string& effective_deck,
                           std::int64_t vocab_size);

/// Of weights from anywhere: what makes their model another than the deck's. Shapes alone would not
/// tell: heads of another width are the same matrices.
std::vector<DeckDifference> compare_weights(const CheckpointHead& head,
                                            const std::string& effective_deck,
                                            std::int64_t vocab_size);

}  // namespace koios
