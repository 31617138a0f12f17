// Stands in for the driver's libnvidia-ml.so.1: one GPU, of which it knows all but the clock.
#include <string.h>

static int users = 0;

int nvmlInit_v2(void) { return ++users, 0; }
int nvmlShutdown(void) { return --users, 0; }
int fake_nvml_users(void) { return users; }

int nvmlDeviceGetHandleByPciBusId_v2(const char* bus, void** device) {
  *device = &users;
  return strcmp(bus, "0000:18:00.0") == 0 ? 0 : 6;
}
int nvmlDeviceGetUtilizationRates(void* device, unsigned int* rates) {
  rates[0] = 97;
  rates[1] = 40;
  return device == &users ? 0 : 2;
}
int nvmlDeviceGetPowerUsage(void* device, unsigned int* milliwatts) {
  *milliwatts = 698500;
  return device == &users ? 0 : 2;
}
int nvmlDeviceGetClockInfo(void* device, int kind, unsigned int* mhz) {
  (void)device;
  (void)kind;
  *mhz = 1;
  return 3;  // not supported
}
int nvmlDeviceGetTemperature(void* device, int sensor, unsigned int* celsius) {
  *celsius = 61;
  return device == &users && sensor == 0 ? 0 : 2;
}
int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* millijoules) {
  *millijoules = 5000000123ULL;
  return device == &users ? 0 : 2;
}
