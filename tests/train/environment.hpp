// MPI and the device of a test of training: each starts once in a process.
#pragma once

#include "runtime/device.hpp"
#include "runtime/mpi_env.hpp"

namespace koios::testing {

inline MpiEnv& mpi_env() {
  static int argc = 0;
  static char** argv = nullptr;
  static MpiEnv env(argc, argv);
  return env;
}

/// With a GPU it serves both backends.
inline const DeviceEnv& device_env() {
  static const DeviceEnv env(count_gpus() > 0 ? Backend::cuda : Backend::host,
                             mpi_env().local_rank());
  return env;
}

}  // namespace koios::testing
