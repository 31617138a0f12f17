// How a program ends when something is wrong: one line, and an exit code that a script can tell by.
#pragma once

#include <exception>

#include "core/error.hpp"

namespace koios {

/// The exit code where the command line or the deck is wrong.
inline constexpr int kBadInput = 2;

/// The command line is wrong. Thrown before MPI runs.
class CommandLineError : public UserError {
 public:
  using UserError::UserError;
};

/// Prints the error on the first of the tasks that a launcher started, and returns kBadInput.
int refuse(const CommandLineError& error);

/// Prints the error with the rank, and ends every rank of the job.
[[noreturn]] void end_job(const std::exception& error);

/// EXIT_SUCCESS; UserError where what was printed has not reached standard output.
int end_of_output();

}  // namespace koios
