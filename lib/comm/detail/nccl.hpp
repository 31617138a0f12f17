// The seam between comm/ and NCCL, free of NCCL's types. nccl_communicator.cpp implements it in a
// CUDA build, nccl_absent.cpp in a host build.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "comm/communicator.hpp"
#include "comm/flight_recorder.hpp"

namespace koios::nccl {

/// Collective over `bootstrap`, by which NCCL's id travels; not kept. Throws UserError when the
/// ranks have not found each other after timeout_s.
std::unique_ptr<Communicator> make_communicator(std::string name, MPI_Comm bootstrap,
                                                double timeout_s, FlightRecorder* recorder);

/// Collective: all_gather and reduce_scatter of these communicators, which are of one group, copy
/// from the other ranks' memory from now on, by copy engines. `memory` is the one allocation in
/// which all lies that they are given, of the same size and use on every rank; an empty one ends
/// it, with all streams through. Returns "", or why NCCL goes on doing it, the same on all ranks.
std::string share_memory(std::span<Communicator* const> users, std::span<std::byte> memory);

}  // namespace koios::nccl
