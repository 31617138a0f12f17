// Kokkos and the GPU of this rank: started after MPI, ended before it.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/backend.hpp"

namespace koios {

/// What the start-up table and the memory plan need to know of a device.
struct DeviceInfo {
  std::string name;               // "NVIDIA H200", or the host's processor
  std::string uuid;               // GPU only
  std::string pci_bus;            // GPU only, "0000:18:00.0"
  int numa_node = -1;             // -1: unknown
  std::int64_t memory_bytes = 0;  // total
  std::int64_t free_bytes = 0;    // at the start
};

class DeviceEnv {
 public:
  /// backend cuda: takes GPU local_rank % (number of GPUs). Throws UserError in one clear line
  /// where there is no GPU or its driver is too old for this build.
  DeviceEnv(Backend backend, int local_rank);
  DeviceEnv(const DeviceEnv&) = delete;
  DeviceEnv& operator=(const DeviceEnv&) = delete;
  ~DeviceEnv();

  Backend backend() const { return backend_; }
  const DeviceInfo& info() const { return info_; }
  /// CUDA's current device belongs to a thread: every thread that uses the GPU calls this first.
  void use_on_this_thread() const;
  /// What is in use: the process's highest resident memory on the host, all of the GPU on cuda.
  std::int64_t reserved_bytes() const;
  /// Threads of the host backend's kernels (OMP_NUM_THREADS).
  static int host_threads();

 private:
  Backend backend_;
  int gpu_ = -1;
  DeviceInfo info_;
};

/// "4.7.0".
std::string kokkos_version();

/// Before CUDA starts: it then loads every kernel at its start, unless the environment says
/// otherwise, and not each when it is first launched. Such a load may wait for all streams of the
/// device, and where these wait for other ranks that load one, too, none goes on. ref: CUDA C++
/// Programming Guide, Lazy Loading, Potential Hazards.
void load_kernels_at_start();

/// Number of usable GPUs; 0 in a host build or without a driver. The first call starts CUDA, with
/// as many hardware queues as there can be, unless the environment says otherwise.
int count_gpus();

}  // namespace koios
