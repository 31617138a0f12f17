#include "runtime/gpu_sensors.hpp"

#include <dlfcn.h>

#include "runtime/handle.hpp"

namespace koios {
namespace {

// The few declarations of nvml.h that are used: its header is not part of every toolkit.
using Device = void*;
constexpr int kSuccess = 0;
constexpr int kCoreTemperature = 0;      // NVML_TEMPERATURE_GPU
constexpr int kMultiprocessorClock = 1;  // NVML_CLOCK_SM
struct Utilization {
  unsigned int gpu, memory;  // per cent
};

void close_library(void* library) { dlclose(library); }
using Library = Handle<void*, &close_library>;

/// A value that is asked for with f(device, &value); `scale` makes its unit ours.
template <class Value, class Function, class... Kind>
std::optional<double> ask(Function f, Device device, double scale, Kind... kind) {
  Value value = 0;
  if (f == nullptr || f(device, kind..., &value) != kSuccess) return std::nullopt;
  return static_cast<double>(value) * scale;
}

}  // namespace

struct GpuSensors::Nvml {
  Library library;
  Device device = nullptr;
  int (*shut_down)() = nullptr;
  int (*utilization)(Device, Utilization*) = nullptr;
  int (*power_mw)(Device, unsigned int*) = nullptr;
  int (*clock_mhz)(Device, int, unsigned int*) = nullptr;
  int (*temperature_c)(Device, int, unsigned int*) = nullptr;
  int (*energy_mj)(Device, unsigned long long*) = nullptr;

  template <class Function>
  bool find(Function& f, const char* name) {
    f = reinterpret_cast<Function>(dlsym(library.get(), name));
    return f != nullptr;
  }

  /// False where the library or the GPU is not there; functions that an old driver lacks stay null.
  bool open(const std::string& name, const std::string& pci_bus) {
    library = Library(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL));
    if (library.get() == nullptr) return false;
    int (*start)() = nullptr;
    int (*find_device)(const char*, Device*) = nullptr;
    if (!find(start, "nvmlInit_v2") || !find(find_device, "nvmlDeviceGetHandleByPciBusId_v2")) {
      return false;
    }
    if (start() != kSuccess) return false;
    find(shut_down, "nvmlShutdown");
    find(utilization, "nvmlDeviceGetUtilizationRates");
    find(power_mw, "nvmlDeviceGetPowerUsage");
    find(clock_mhz, "nvmlDeviceGetClockInfo");
    find(temperature_c, "nvmlDeviceGetTemperature");
    find(energy_mj, "nvmlDeviceGetTotalEnergyConsumption");
    return find_device(pci_bus.c_str(), &device) == kSuccess;
  }

  Nvml() = default;
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  ~Nvml() {
    if (shut_down != nullptr) shut_down();
  }
};

GpuSensors::GpuSensors(const std::string& pci_bus, const std::string& library) {
  if (pci_bus.empty()) return;
  auto nvml = std::make_unique<Nvml>();
  if (nvml->open(library, pci_bus)) nvml_ = std::move(nvml);
}

GpuSensors::~GpuSensors() = default;

GpuReading GpuSensors::read() const {
  if (!nvml_) return {};
  GpuReading reading;
  Utilization load{};
  if (nvml_->utilization != nullptr && nvml_->utilization(nvml_->device, &load) == kSuccess) {
    reading.utilization_pct = load.gpu;
  }
  using Number = unsigned int;
  reading.power_w = ask<Number>(nvml_->power_mw, nvml_->device, 1e-3);
  reading.clock_mhz = ask<Number>(nvml_->clock_mhz, nvml_->device, 1, kMultiprocessorClock);
  reading.temperature_c = ask<Number>(nvml_->temperature_c, nvml_->device, 1, kCoreTemperature);
  reading.energy_j = ask<unsigned long long>(nvml_->energy_mj, nvml_->device, 1e-3);
  return reading;
}

}  // namespace koios
