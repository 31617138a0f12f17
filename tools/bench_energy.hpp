// What a call of a benchmark's case costs a GPU in energy, by the driver's counter.
#pragma once

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>

#include "core/stopwatch.hpp"
#include "runtime/gpu_sensors.hpp"
#include "runtime/stream.hpp"

namespace koios {

class EnergyMeter {
 public:
  struct Cost {
    double joules = 0;  // of one call
    double seconds = 0;
  };
  /// pci_bus: of the GPU; empty: nothing is measured.
  explicit EnergyMeter(const std::string& pci_bus) : is_on_(!pci_bus.empty()), sensors_(pci_bus) {}

  /// Calls run(), which enqueues on the stream, again and again: the counter moves every 0.1 s or
  /// so, and a card takes some time until its clock has come to rest.
  template <class Run>
  std::optional<Cost> measure(Stream& stream, const Run& run) const {
    if (!is_on_) return std::nullopt;
    constexpr double kSettle_s = 0.5;
    constexpr double kMeasured_s = 2;
    repeat(stream, run, kSettle_s);
    const std::optional<double> before = sensors_.read().energy_j;
    const Stopwatch watch;
    const double calls = repeat(stream, run, kMeasured_s);
    const double seconds = watch.seconds();
    const std::optional<double> after = sensors_.read().energy_j;
    if (!before || !after) return std::nullopt;
    return Cost{(*after - *before) / calls, seconds / calls};
  }
  /// " 0.812 J 693 W", or nothing.
  template <class Run>
  void print(Stream& stream, const Run& run) const {
    const std::optional<Cost> cost = measure(stream, run);
    if (cost) std::printf(" %9.4f J %4.0f W", cost->joules, cost->joules / cost->seconds);
  }

 private:
  template <class Run>
  static double repeat(Stream& stream, const Run& run, double seconds) {
    const Stopwatch watch;
    double calls = 0;
    double together = 1;
    while (watch.seconds() < seconds) {
      for (double i = 0; i < together; ++i) run();
      stream.synchronize();
      calls += together;
      // Waits between calls cost power, too: enough of them that none counts.
      if (watch.seconds() < seconds / 10) together = std::min(2 * together, 1000.0);
    }
    return calls;
  }

  bool is_on_;
  GpuSensors sensors_;
};

}  // namespace koios
