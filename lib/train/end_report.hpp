// What is printed at the end of a run: where the time went.
#pragma once

#include "comm/mesh.hpp"
#include "metrics/timers.hpp"

namespace koios {

/// Minimum, mean and maximum of each timer over the ranks. Collective.
void print_timers(const Timers& timers, const Mesh& mesh, double whole_s);

}  // namespace koios
