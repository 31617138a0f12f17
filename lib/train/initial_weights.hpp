// A run that starts from somebody's weights: [checkpoint] initial_load_path.
#pragma once

#include <cstdint>
#include <string>

#include "core/ref.hpp"
#include "runtime/rank_group.hpp"
#include "runtime/stream.hpp"
#include "shard/layout.hpp"

namespace koios {

/// Fills this rank's part of every parameter from a file of weights, or from the model of a
/// checkpoint, whatever mesh wrote it and in whatever type. Collective over all ranks: each reads
/// its own slices, and together they verify the checksums. UserError on every rank, in one line,
/// where the file is damaged or its model is not the deck's.
void load_initial_weights(const std::string& path, const std::string& effective_deck,
                          std::int64_t vocab_size, const ShardLayout& layout, Ref<float, 1> masters,
                          Stream& stream, const RankGroup& ranks);

}  // namespace koios
