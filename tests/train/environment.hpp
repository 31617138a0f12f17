// MPI and the device of a test of training: each starts once in a process. And what to ask of them.
#pragma once

#include <mpi.h>

#include <vector>

#include "runtime/copy.hpp"
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

inline double sum_over_ranks(double mine) {
  MPI_Allreduce(MPI_IN_PLACE, &mine, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  return mine;
}

inline std::vector<float> to_host(Stream& stream, Ref<const float, 1> data) {
  std::vector<float> host(static_cast<std::size_t>(data.size()));
  copy(stream, any(make_ref(host.data(), data.size())), any(data));
  stream.synchronize();
  return host;
}

}  // namespace koios::testing
