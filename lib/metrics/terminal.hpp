// Whether somebody looks at standard output, and how wide it is.
#pragma once

namespace koios {

/// isatty alone does not tell: mpirun gives each rank a pseudo-terminal even where its own output
/// is piped, so under mpirun it is the launcher's standard output that counts. In doubt false.
bool stdout_is_terminal();

/// Columns; 80 where the terminal does not say.
int terminal_width();

}  // namespace koios
