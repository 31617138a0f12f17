// Starts MPI as koios does and says what it found; the tests run it in odd environments.
#include <cstdio>

#include "core/error.hpp"
#include "runtime/mpi_env.hpp"

int main(int argc, char** argv) {
  try {
    const koios::MpiEnv mpi(argc, argv);
    std::printf("rank %d of %d\n", mpi.rank(), mpi.size());
    return 0;
  } catch (const koios::UserError& error) {
    std::printf("user error: %s\n", error.what());
    return 2;
  }
}
