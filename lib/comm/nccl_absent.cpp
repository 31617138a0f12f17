// The host build's side of detail/nccl.hpp.
#include "comm/detail/nccl.hpp"
#include "core/error.hpp"

namespace koios::nccl {

std::unique_ptr<Communicator> make_communicator(std::string /*name*/, MPI_Comm /*bootstrap*/,
                                                double /*timeout_s*/,
                                                FlightRecorder* /*recorder*/) {
  throw UserError(
      "this is the host build, it has no NCCL: set job/backend = host, or build with "
      "cmake --preset cuda");
}

std::string share_memory(std::span<Communicator* const> /*users*/,
                         std::span<std::byte> /*memory*/) {
  return "this is the host build";
}

}  // namespace koios::nccl
