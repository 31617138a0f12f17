// Recognises launches in which MPI would start every task alone. Functions of the environment
// only, so that they can be tested.
#pragma once

#include <functional>
#include <string>

namespace koios {

/// getenv, or a test's table: nullptr where a variable is not set.
using EnvLookup = std::function<const char*(const char*)>;

/// Before MPI_Init: this task's number among those that its launcher started; 0 where none did.
int launched_rank(const EnvLookup& env);

/// And how many it started; 1 where none did.
int launched_ranks(const EnvLookup& env);

/// Before MPI_Init: what is wrong with a Slurm step of at least `least_tasks` tasks that offers no
/// PMIx, and the fix; or "".
std::string missing_pmix(const EnvLookup& env, int least_tasks);

/// After MPI_Init, which found `mpi_size` ranks: why there should be more, and the fix; or "".
std::string alone_among_tasks(const EnvLookup& env, int mpi_size);

/// A batch script of several tasks that started the program without a launcher; or "".
std::string forgotten_launcher(const EnvLookup& env, int mpi_size);

}  // namespace koios
