// With which codes Koios' programs end: the one table, which --help and the docs repeat.
#pragma once

#include <array>
#include <string>

namespace koios {

enum class ExitCode : int {
  done = 0,
  failure = 1,
  bad_input = 2,
  standstill = 75,  // EX_TEMPFAIL of sysexits.h
  stopped = 99,     // what batch systems commonly take for "run me again"
};

constexpr int to_int(ExitCode code) { return static_cast<int>(code); }

struct ExitMeaning {
  ExitCode code;
  const char* meaning;
};

inline constexpr std::array<ExitMeaning, 5> kExitMeanings = {{
    {ExitCode::done, "done"},
    {ExitCode::failure, "an error that was printed"},
    {ExitCode::bad_input, "the command line or the deck is wrong; nothing was begun"},
    {ExitCode::standstill, "a rank stood still for longer than [comm] allows"},
    {ExitCode::stopped, "stopped on request before the end; the same command goes on from there"},
}};

}  // namespace koios
