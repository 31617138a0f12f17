#include "runtime/device.hpp"

#include <omp.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <cstdlib>
#include <fstream>
#include <latch>
#include <thread>
#include <vector>

#include "core/error.hpp"
#include "core/explain.hpp"
#include "core/free_memory.hpp"
#include "core/log.hpp"
#include "core/unwinding.hpp"
#include "runtime/detail/cuda.hpp"

namespace koios {
namespace {

DeviceInfo host_info() {
  DeviceInfo info;
  info.name = "unknown processor";
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    if (const auto colon = line.find(": "); colon != std::string::npos) {
      info.name = line.substr(colon + 2);
    }
    break;
  }
  info.memory_bytes = std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  info.free_bytes = free_host_memory().bytes;
  return info;
}

/// mpirun binds each of one or two ranks to a single core unless told otherwise: the threads of a
/// rank then take turns on it.
void warn_about_affinity() {
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return;
  const int cores = CPU_COUNT(&mask);
  if (cores < DeviceEnv::host_threads()) {
    log::warning(DeviceEnv::host_threads(), " threads share ", cores,
                 " core(s): start with mpirun --bind-to none and OMP_NUM_THREADS = cores / ranks");
  }
}

/// Kokkos' pool holds no more; it does not say so, but hangs or writes beyond it.
void limit_host_threads() {
  constexpr int kMost = 512;
  if (omp_get_max_threads() <= kMost) return;
  log::warning(omp_get_max_threads(), " threads (OMP_NUM_THREADS) are more than the ", kMost,
               " of a rank; ", kMost, " are used: start more ranks instead");
  omp_set_num_threads(kMost);
}

/// What Koios decides itself. Kokkos would end the process, with a backtrace, where one is no
/// number.
void forget_settings_of_kokkos() {
  for (const char* name : {"KOKKOS_NUM_THREADS", "KOKKOS_DEVICE_ID", "KOKKOS_MAP_DEVICE_ID_BY",
                           "KOKKOS_DISABLE_WARNINGS"}) {
    unsetenv(name);
  }
}

/// OpenMP ends the process where its threads cannot be started, so others are started first.
void require_host_threads() {
  const int wanted = omp_get_max_threads();
  std::latch all_there(1);
  std::vector<std::jthread> threads;
  std::string problem;
  try {
    while (std::ssize(threads) + 1 < wanted) threads.emplace_back([&] { all_there.wait(); });
  } catch (const std::exception& error) {
    problem = explain(error);
  }
  all_there.count_down();
  if (problem.empty()) return;
  throw UserError(cat("of the ", wanted, " threads of a rank (OMP_NUM_THREADS) only ",
                      std::ssize(threads) + 1, " can be started: ", problem));
}

}  // namespace

DeviceEnv::DeviceEnv(Backend backend, int local_rank) : backend_(backend) {
  const int gpus = count_gpus();
  if (backend == Backend::cuda) {
    gpu_ = gpus > 0 ? local_rank % gpus : 0;
    info_ = cuda::open_device(gpu_);
  } else {
    info_ = host_info();
    // The Kokkos of a CUDA build starts no backend without a GPU.
    if (cuda::is_built_in() && gpus == 0) {
      throw UserError(cat("this is the CUDA build, which needs a GPU even for job/backend = host; ",
                          cuda::gpu_problem(), ", or use the host build (cmake --preset host)"));
    }
  }
  limit_host_threads();
  require_host_threads();
  forget_settings_of_kokkos();
  Kokkos::InitializationSettings settings;
  settings.set_num_threads(host_threads());
  settings.set_disable_warnings(true);
  if (gpus > 0) settings.set_device_id(local_rank % gpus);
  Kokkos::initialize(settings);
  if (local_rank == 0) warn_about_affinity();
}

DeviceEnv::~DeviceEnv() {
  // Under an exception the job is about to be aborted. Waiting for the device could hang: a
  // collective may be spinning there for a rank that is gone.
  if (!is_unwinding()) Kokkos::finalize();
}

void DeviceEnv::use_on_this_thread() const {
  if (backend_ == Backend::cuda) cuda::use_device(gpu_);
}

std::int64_t DeviceEnv::reserved_bytes() const {
  if (backend_ == Backend::cuda) {
    const cuda::MemoryInfo info = cuda::memory_info();
    return info.total_bytes - info.free_bytes;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

int DeviceEnv::host_threads() { return omp_get_max_threads(); }

std::string kokkos_version() {
  return cat(KOKKOS_VERSION / 10000, ".", KOKKOS_VERSION / 100 % 100, ".", KOKKOS_VERSION % 100);
}

void load_kernels_at_start() { setenv("CUDA_MODULE_LOADING", "EAGER", 0); }

// CUDA reads the variable when it starts. Streams that share one of its 8 queues wait for each
// other in the order of their calls: the computation for what stages of a pipeline have asked for,
// which comes only once it goes on.
int count_gpus() {
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  return cuda::count_devices();
}

}  // namespace koios
