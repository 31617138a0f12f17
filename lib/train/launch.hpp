// What main hands to the training beside the configuration.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "comm/watchdog.hpp"
#include "core/phase_clock.hpp"
#include "runtime/device.hpp"
#include "runtime/memory_book.hpp"
#include "runtime/mpi_env.hpp"
#include "runtime/signals.hpp"

namespace koios {

struct Launch {
  const MpiEnv& mpi;
  const DeviceEnv& device;
  PhaseClock& start;
  MemoryBook& memory;
  Signals& signals;
  FlightRecorder& recorder;
  Watchdog& watchdog;
  std::vector<std::string> command_line;
  std::string effective_deck;
  std::vector<std::pair<std::string, std::string>> library_versions;
};

}  // namespace koios
