#include "app/failure.hpp"

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "core/log.hpp"
#include "runtime/launch_check.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

/// What every rank runs into is told by rank 0; its end ends the others in this pause.
void let_rank_0_tell(int rank) {
  if (rank != 0) std::this_thread::sleep_for(std::chrono::seconds(1));
}

}  // namespace

ExitCode refuse(const CommandLineError& error) {
  const int rank = launched_rank([](const char* name) -> const char* { return std::getenv(name); });
  let_rank_0_tell(rank);
  if (rank == 0) log::error(error.what());
  return ExitCode::bad_input;
}

void end_job(const std::exception& error) {
  let_rank_0_tell(log::settings().rank);
  log::error(error.what());
  MpiEnv::abort(ExitCode::failure);
}

ExitCode end_of_output() {
  if (!std::cout.flush()) throw UserError("cannot write to standard output");
  return ExitCode::done;
}

}  // namespace koios
