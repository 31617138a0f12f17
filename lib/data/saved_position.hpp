// The position in the data as named lists of integers, for a checkpoint: readable without Koios,
// and nothing of their meaning is known elsewhere.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/sample_sequence.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

using SavedPosition = std::map<std::string, std::vector<std::int64_t>>;

SavedPosition save_position(const SequenceState& state);

/// Over names and integers.
std::uint64_t hash_of(const SavedPosition& position);

/// UserError where a list is missing or of another length than the others, or where its integers
/// are no position that save_position() gave: they come from a file, which may be damaged or made
/// by somebody else. What only the data can tell is compared when they are read
/// (DocumentStream::seek). Checkpoints of before have no checksum, and no lists of what came later.
SequenceState restore_position(const SavedPosition& saved);

/// A state as one list, for ranks of the same run.
std::vector<std::int64_t> to_integers(const SequenceState& state);
SequenceState from_integers(std::span<const std::int64_t> integers);

/// Each rank moves only the streams that it reads. Collective: the states that all ranks have of
/// one place in the sequence become the one that is furthest in every stream, from which any rank
/// can go on at once.
SequenceState furthest(const SequenceState& of_this_rank, const MpiEnv& mpi);

}  // namespace koios
