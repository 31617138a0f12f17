#include "app/failure.hpp"

#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <thread>

#include "core/explain.hpp"
#include "core/log.hpp"
#include "runtime/launch_check.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

/// What every rank runs into is told by rank 0; its end ends the others in this pause.
void let_rank_0_tell(int rank) {
  if (rank != 0) std::this_thread::sleep_for(std::chrono::seconds(1));
}

ExitCode refuse(const CommandLineError& error) {
  const int rank = launched_rank([](const char* name) -> const char* { return std::getenv(name); });
  let_rank_0_tell(rank);
  if (rank == 0) log::error(error.what());
  return ExitCode::bad_input;
}

[[noreturn]] void end_job(const std::string& problem) {
  let_rank_0_tell(log::settings().rank);
  log::error(problem);
  MpiEnv::abort(ExitCode::failure);
}

/// Of a thread, or thrown while another was on its way.
[[noreturn]] void on_terminate() {
  end_job(std::current_exception() ? explain_current_exception()
                                   : "internal error: the program was told to terminate");
}

}  // namespace

int guard(const std::function<ExitCode()>& program) {
  std::set_terminate(&on_terminate);
  try {
    return to_int(program());
  } catch (const CommandLineError& error) {
    return to_int(refuse(error));
  } catch (...) {
    end_job(explain_current_exception());
  }
}

ExitCode end_of_output() {
  if (!std::cout.flush()) throw UserError("cannot write to standard output");
  return ExitCode::done;
}

}  // namespace koios
