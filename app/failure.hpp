// How a program ends when something is wrong: one line, and an exit code that a script can tell by.
#pragma once

#include <functional>
#include <string>

#include "core/error.hpp"
#include "core/exit_code.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {

/// The command line is wrong. Thrown before MPI runs.
class CommandLineError : public UserError {
 public:
  using UserError::UserError;
};

/// The exit code of `program`. Whatever it throws, also on a thread of its own or in a destructor,
/// becomes one line with the rank and ends every rank of the job, before any scope is left: what
/// waits at its end might wait for a file system that hangs, or for a rank that waits elsewhere. A
/// CommandLineError, which comes before there are ranks, becomes one line of the first task that a
/// launcher started, and ExitCode::bad_input.
int guard(const std::function<ExitCode()>& program);

/// Runs `program` between MPI's start and end. Its code, the same on all ranks, is rank 0's alone
/// to return, after the others have ended: launchers kill what still runs at the first code that is
/// not 0, and return the highest, which then is that of the killed.
ExitCode on_all_ranks(int& argc, char**& argv,
                      const std::function<ExitCode(const MpiEnv&)>& program);

/// "Exit codes:", one a line: for --help.
std::string exit_code_table();

/// ExitCode::done; UserError where what was printed has not reached standard output.
ExitCode end_of_output();

}  // namespace koios
