// The seam between comm/ and NCCL, free of NCCL's types. nccl_communicator.cpp implements it in a
// CUDA build, nccl_absent.cpp in a host build.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>

#include "comm/communicator.hpp"
#include "comm/flight_recorder.hpp"

namespace koios::nccl {

/// Collective over `bootstrap`, by which NCCL's id travels; not kept. Throws UserError when the
/// ranks have not found each other after timeout_s.
std::unique_ptr<Communicator> make_communicator(std::string name, MPI_Comm bootstrap,
                                                double timeout_s, FlightRecorder* recorder);

}  // namespace koios::nccl
