#include "runtime/launch_check.hpp"

#include <algorithm>
#include <cstdlib>

#include "core/error.hpp"
#include "core/readable.hpp"

namespace koios {
namespace {

int number(const EnvLookup& env, const char* name) {
  const char* text = env(name);
  return text == nullptr ? 0 : std::atoi(text);
}

/// Tasks of the Slurm step that this process is one of; 0 outside of steps. (A batch script has
/// SLURM_PROCID too, but no step of its own.)
int step_tasks(const EnvLookup& env) {
  if (env("SLURM_PROCID") == nullptr || env("SLURM_STEP_ID") == nullptr) return 0;
  return env("SLURM_STEP_NUM_TASKS") != nullptr ? number(env, "SLURM_STEP_NUM_TASKS")
                                                : number(env, "SLURM_NTASKS");
}

}  // namespace

int launched_rank(const EnvLookup& env) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (env(name) != nullptr) return number(env, name);
  }
  return step_tasks(env) > 0 ? number(env, "SLURM_PROCID") : 0;
}

int launched_ranks(const EnvLookup& env) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (env(name) != nullptr) return std::max(1, number(env, name));
  }
  return std::max(1, step_tasks(env));
}

std::string missing_pmix(const EnvLookup& env, int least_tasks) {
  const int tasks = step_tasks(env);
  if (tasks < least_tasks || env("PMIX_NAMESPACE") != nullptr) return "";
  return cat("Slurm started ", counted(tasks, "task"),
             ", but without PMIx, by which MPI's ranks find each other: start with "
             "srun --mpi=pmix (srun --mpi=list shows what this Slurm has), or with mpirun");
}

std::string alone_among_tasks(const EnvLookup& env, int mpi_size) {
  if (mpi_size > 1) return "";
  if (const int ranks = number(env, "OMPI_COMM_WORLD_SIZE"); ranks > 1) {
    return cat("mpirun started ", ranks,
               " ranks, but MPI finds only this one: mpirun and the MPI library that koios is "
               "linked with are not of the same installation");
  }
  if (const int tasks = step_tasks(env); tasks > 1) {
    return cat("Slurm started ", tasks,
               " tasks, but MPI finds only this one: start with srun --mpi=pmix, or with the "
               "mpirun of the MPI that koios is linked with");
  }
  return "";
}

std::string forgotten_launcher(const EnvLookup& env, int mpi_size) {
  if (mpi_size > 1 || env("SLURM_JOB_ID") == nullptr || step_tasks(env) != 0) return "";
  if (env("OMPI_COMM_WORLD_SIZE") != nullptr) return "";
  const int tasks = number(env, "SLURM_NTASKS");
  if (tasks <= 1) return "";
  return cat("this Slurm job has ", tasks,
             " tasks, and koios runs as one: start it with srun --mpi=pmix or mpirun to use all");
}

}  // namespace koios
