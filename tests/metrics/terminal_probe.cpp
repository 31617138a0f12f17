// Says on standard error whether standard output is a terminal; terminal_test.py runs it.
#include <cstdio>

#include "metrics/terminal.hpp"

int main() { std::fprintf(stderr, "%d\n", koios::stdout_is_terminal() ? 1 : 0); }
