#include "train/device_access.hpp"

namespace koios {

DeviceAccess::DeviceAccess(Stream& stream)
    : stream_(stream), buffer_(stream.backend(), kBlock * std::int64_t{sizeof(float)}) {}

const float* DeviceAccess::fetch(const float* values, std::int64_t count) {
  auto* here = static_cast<float*>(buffer_.data());
  copy(stream_, any(make_ref(here, count)), any(make_ref(values, count)));
  stream_.synchronize();
  return here;
}

float* DeviceAccess::landing(float* /*values*/) { return static_cast<float*>(buffer_.data()); }

void DeviceAccess::store(float* values, std::int64_t count) {
  auto* here = static_cast<float*>(buffer_.data());
  copy(stream_, any(make_ref(values, count)), any(make_ref(here, count)));
  stream_.synchronize();
}

std::unique_ptr<HostAccess> make_host_access(Stream& stream) {
  if (stream.backend() == Backend::cuda) return std::make_unique<DeviceAccess>(stream);
  return std::make_unique<HostAccess>();
}

}  // namespace koios
