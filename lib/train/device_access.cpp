#include "train/device_access.hpp"

#include "runtime/copy.hpp"

namespace koios {
namespace {

class DeviceAccess final : public HostAccess {
 public:
  explicit DeviceAccess(Stream& stream)
      : stream_(stream), buffer_(stream.backend(), kBlock * std::int64_t{sizeof(float)}) {}

  const void* fetch(const AnyRef& values) override {
    copy_between(buffered(values), values);
    return buffer_.data();
  }
  void* landing(const AnyRef& /*values*/) override { return buffer_.data(); }
  void store(const AnyRef& values) override { copy_between(values, buffered(values)); }

 private:
  AnyRef buffered(const AnyRef& values) const {
    return {buffer_.data(), values.count, values.dtype};
  }
  void copy_between(const AnyRef& to, const AnyRef& from) {
    copy(stream_, to, from);
    stream_.synchronize();
  }

  Stream& stream_;
  PinnedBuffer buffer_;
};

}  // namespace

std::unique_ptr<HostAccess> make_host_access(Stream& stream) {
  if (stream.backend() == Backend::cuda) return std::make_unique<DeviceAccess>(stream);
  return std::make_unique<HostAccess>();
}

}  // namespace koios
