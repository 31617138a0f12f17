// How a program ends when something is wrong: one line, and an exit code that a script can tell by.
#pragma once

#include <functional>

#include "core/error.hpp"
#include "core/exit_code.hpp"

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

/// ExitCode::done; UserError where what was printed has not reached standard output.
ExitCode end_of_output();

}  // namespace koios
