// Turns MPI's error codes into exceptions with MPI's own words.
#pragma once

#include <source_location>

namespace koios {

/// `call`: the function's name, for the message.
void check_mpi(int code, const char* call,
               std::source_location where = std::source_location::current());

}  // namespace koios
