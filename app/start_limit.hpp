// A start that stands still before there is a watchdog (lib/comm): MPI's own start, and the deck.
#pragma once

#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace koios {

/// How long MPI's start and the deck together may take: comm/init_timeout_seconds of these
/// overrides, or CommConfig::kLongestStartSeconds.
std::chrono::seconds start_limit(const std::vector<std::string>& overrides);

/// From here to end() this process may take so long. Then it says so and ends the job with
/// ExitCode::standstill: rank 0, and where that one cannot, the others a little later.
class StartLimit {
 public:
  explicit StartLimit(std::chrono::seconds limit);
  void end();

 private:
  std::jthread watch_;
};

}  // namespace koios
