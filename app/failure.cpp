#include "app/failure.hpp"

#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <thread>

#include "core/explain.hpp"
#include "core/log.hpp"
#include "runtime/launch_check.hpp"
#include "runtime/memory_book.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

/// What every rank runs into is told by rank 0; its end ends the others in this pause, by the
/// signal that a training run takes for a wish.
void let_rank_0_tell(int rank) {
  if (rank == 0) return;
  std::signal(SIGTERM, SIG_DFL);
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

ExitCode refuse(const CommandLineError& error) {
  const int rank = launched_rank(std::getenv);
  let_rank_0_tell(rank);
  if (rank == 0) log::error(error.what());
  return ExitCode::bad_input;
}

/// Prints the exception in flight, and returns what its job ends with.
ExitCode tell_exception() {
  if (!std::current_exception()) {
    log::error("internal error: the program was told to terminate");
    return ExitCode::failure;
  }
  try {
    throw;
  } catch (const CommandLineError& error) {
    std::_Exit(to_int(refuse(error)));  // there is no job yet
  } catch (...) {
    let_rank_0_tell(log::settings().rank);
    const std::string error = explain_current_exception();
    const std::string memory = MemoryBook::about_memory(error);
    log::error(error, memory.empty() ? "" : "; ", memory);
  }
  return ExitCode::failure;
}

/// Given back before a message is made: the memory may have been taken to the last byte.
std::unique_ptr<char[]>& spare_memory() {
  constexpr std::size_t kBytes = 64 * 1024;  // of the heap, where pieces of any size come from it
  static auto memory = std::make_unique<char[]>(kBytes);
  return memory;
}

/// std::terminate calls it where the exception was thrown, with the stack as it was.
[[noreturn]] void end_job() {
  spare_memory().reset();
  MpiEnv::end_soon(ExitCode::failure);
  MpiEnv::abort(tell_exception());
}

}  // namespace

int guard(const std::function<ExitCode()>& program) {
  spare_memory();
  std::set_terminate(&end_job);
  return to_int(program());
}

ExitCode on_all_ranks(int& argc, char**& argv,
                      const std::function<ExitCode(const MpiEnv&)>& program) {
  constexpr std::chrono::milliseconds kOthersEnd{500};
  auto code = ExitCode::done;
  bool is_first = true;
  bool is_alone = true;
  {
    const MpiEnv mpi(argc, argv);
    log::configure({.rank = mpi.rank(), .shown = mpi.rank() == 0});
    is_first = mpi.rank() == 0;
    is_alone = mpi.size() == 1;
    code = program(mpi);
  }
  if (code == ExitCode::done || !is_first) return ExitCode::done;
  if (!is_alone) std::this_thread::sleep_for(kOthersEnd);
  return code;
}

std::string exit_code_table() {
  std::string text = "Exit codes:\n";
  for (const ExitMeaning& exit : kExitMeanings) {
    text += fmt::format("  {:3}  {}\n", to_int(exit.code), exit.meaning);
  }
  return text + "  128 + n  signal n came a second time, and ended it at once\n";
}

ExitCode end_of_output() {
  if (!std::cout.flush()) throw UserError("cannot write to standard output");
  return ExitCode::done;
}

}  // namespace koios
