#include "runtime/gpu_sensors.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace koios {
namespace {

constexpr const char* kFake = KOIOS_FAKE_NVML;  // fake_nvml.c

bool is_empty(const GpuReading& r) {
  return !r.utilization_pct && !r.power_w && !r.clock_mhz && !r.temperature_c && !r.energy_j;
}

TEST(GpuSensors, give_what_the_driver_tells_in_our_units) {
  const GpuReading reading = GpuSensors("0000:18:00.0", kFake).read();
  EXPECT_EQ(reading.utilization_pct, 97);
  EXPECT_DOUBLE_EQ(*reading.power_w, 698.5);
  EXPECT_EQ(reading.temperature_c, 61);
  EXPECT_DOUBLE_EQ(*reading.energy_j, 5000000.123);
  EXPECT_FALSE(reading.clock_mhz.has_value()) << "it is not supported there";
}

TEST(GpuSensors, are_silent_without_a_gpu_or_its_library) {
  EXPECT_TRUE(is_empty(GpuSensors("", kFake).read()));
  EXPECT_TRUE(is_empty(GpuSensors("0000:18:00.0", "libno-such-nvml.so.1").read()));
  EXPECT_TRUE(is_empty(GpuSensors("0000:99:00.0", kFake).read()));
  EXPECT_TRUE(is_empty(GpuSensors("0000:18:00.0", "libm.so.6").read())) << "another library";
}

TEST(GpuSensors, leave_the_library_as_often_as_they_enter_it) {
  void* library = dlopen(kFake, RTLD_NOW);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto users = reinterpret_cast<int (*)()>(dlsym(library, "fake_nvml_users"));
  {
    const GpuSensors sensors("0000:18:00.0", kFake);
    const GpuSensors unknown("0000:99:00.0", kFake);
    EXPECT_EQ(users(), 1);
  }
  EXPECT_EQ(users(), 0);
  dlclose(library);
}

}  // namespace
}  // namespace koios
