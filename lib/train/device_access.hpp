// Values of a device's memory for a save or a load that waits: through one pinned buffer.
#pragma once

#include <memory>

#include "checkpoint/saved_array.hpp"
#include "runtime/copy.hpp"
#include "runtime/stream.hpp"

namespace koios {

class DeviceAccess final : public HostAccess {
 public:
  explicit DeviceAccess(Stream& stream);

  const float* fetch(const float* values, std::int64_t count) override;
  float* landing(float* values) override;
  void store(float* values, std::int64_t count) override;

 private:
  Stream& stream_;
  PinnedBuffer buffer_;
};

/// The way to values in `stream`'s backend's memory.
std::unique_ptr<HostAccess> make_host_access(Stream& stream);

}  // namespace koios
