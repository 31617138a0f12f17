// The logger: the one piece of global state. Lines of the ranks in `shown` go to standard output,
// warnings and errors to standard error; each line is written by one call, so ranks do not mix.
#pragma once

#include <string>

#include "core/error.hpp"

namespace koios::log {

struct Settings {
  int rank = 0;
  bool shown = true;   // whether this rank's ordinary lines are printed
  bool color = false;  // ANSI colours
};

void configure(const Settings& settings);
const Settings& settings();

void write_info(const std::string& line);
void write_warning(const std::string& line);
void write_error(const std::string& line);

/// "[koios] ..." from the shown ranks.
template <class... Args>
void info(const Args&... args) {
  write_info(cat(args...));
}

/// From any rank, with its number.
template <class... Args>
void warning(const Args&... args) {
  write_warning(cat(args...));
}

/// From any rank, with its number.
template <class... Args>
void error(const Args&... args) {
  write_error(cat(args...));
}

}  // namespace koios::log
