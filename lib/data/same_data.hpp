// Whether all ranks found the same data: files on the disks of several nodes may differ, and then
// the ranks would train on different sequences, or tokenize parts of different texts, without a
// word.
#pragma once

#include <cstdint>

#include "data/sample_sequence.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

/// Collective, with a hash of what each rank found. UserError on every rank where they differ,
/// which names the ranks whose data are not those of rank 0.
void require_same_data(std::uint64_t hash, const MpiEnv& mpi);
/// Likewise with the position at which each rank starts.
void require_same_data(const SequenceState& start, const MpiEnv& mpi);

}  // namespace koios
