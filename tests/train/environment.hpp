// MPI and the device of a test of training: each starts once in a process. And what to ask of them.
#pragma once

#include <gtest/gtest.h>
#include <mpi.h>

#include <vector>

#include "runtime/copy.hpp"
#include "runtime/device.hpp"
#include "runtime/mpi_env.hpp"
#include "train/step.hpp"
#include "train/traffic_plan.hpp"

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

/// Gives the parameters their values of seed 1; returns the stream that computes.
template <class T>
Stream& initialize(TrainingParts<T>& parts) {
  initialize_parameters(parts.streams.compute, parts.layout, parts.memory.parameters.master, 1);
  return parts.streams.compute;
}

/// That a rank of the stage has sent in each step what the plan says.
inline void expect_traffic_as_planned(const Mesh& mesh, const TrainingShape& shape, int stage,
                                      std::int64_t steps, const SentBytes& besides = {}) {
  EXPECT_EQ(describe_traffic("in", (measured_bytes(mesh) - besides) / steps, shape.mesh),
            describe_traffic("in", plan_traffic(shape, stage), shape.mesh));
}

}  // namespace koios::testing
