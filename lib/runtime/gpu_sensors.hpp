// What the driver knows of a GPU beside computing: load, power, clock, temperature, energy. Through
// NVML, which is loaded when it is needed, so that a build needs no driver and a host without one
// has no values.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace koios {

/// What is not there, or what this driver does not tell, has no value.
struct GpuReading {
  std::optional<double> utilization_pct;  // of the time that a kernel ran, over the last second
  std::optional<double> power_w;
  std::optional<double> clock_mhz;  // of the multiprocessors
  std::optional<double> temperature_c;
  std::optional<double> energy_j;  // since the driver was loaded
};

class GpuSensors {
 public:
  /// pci_bus: "0000:18:00.0"; empty: no GPU, so no values. library: a test brings its own.
  explicit GpuSensors(const std::string& pci_bus, const std::string& library = "libnvidia-ml.so.1");
  GpuSensors(const GpuSensors&) = delete;
  GpuSensors& operator=(const GpuSensors&) = delete;
  ~GpuSensors();

  /// Takes some microseconds to a millisecond; nothing waits for the GPU's work.
  GpuReading read() const;

 private:
  struct Nvml;
  std::unique_ptr<Nvml> nvml_;
};

}  // namespace koios
