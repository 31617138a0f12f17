// The three tiers of errors: what a user can mend (UserError), a broken invariant of ours
// (KOIOS_REQUIRE), and a library that failed (LibraryError, thrown by each border's own check).
// All of them travel as exceptions to main, which prints one line with the rank and ends the job.
#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>

namespace koios {

/// Streams its arguments into one string. (g++ 12 has no <format>.)
template <class... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

/// Something the user can mend. The text says what, where (file:line, key) and what to do.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// MPI, CUDA, NCCL, HDF5, ... refused a call: the call, the library's own words, and where.
class LibraryError : public std::runtime_error {
 public:
  LibraryError(const char* library, const char* call, const std::string& reason,
               std::source_location where);
};

/// A condition that only a defect in Koios can break.
class InvariantError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] void throw_invariant(const char* condition, const std::string& message,
                                  std::source_location where);

}  // namespace koios

/// Always on; host code only. A macro for the text of the condition and a lazily built message. The
/// condition stands bare in the `if`, so that the compiler refuses `=` where `==` was meant.
#define KOIOS_REQUIRE(condition, ...)                                 \
  do {                                                                \
    if (condition) {                                                  \
    } else {                                                          \
      ::koios::throw_invariant(#condition, ::koios::cat(__VA_ARGS__), \
                               std::source_location::current());      \
    }                                                                 \
  } while (false)
