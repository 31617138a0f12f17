// How a program ends when something is wrong: one line, and an exit code that a script can tell by.
#pragma once

#include <exception>

#include "core/error.hpp"
#include "core/exit_code.hpp"

namespace koios {

/// The command line is wrong. Thrown before MPI runs.
class CommandLineError : public UserError {
 public:
  using UserError::UserError;
};

/// Prints the error on the first of the tasks that a launcher started.
ExitCode refuse(const CommandLineError& error);

/// Prints the error with the rank, and ends every rank of the job.
[[noreturn]] void end_job(const std::exception& error);

/// ExitCode::done; UserError where what was printed has not reached standard output.
ExitCode end_of_output();

}  // namespace koios
