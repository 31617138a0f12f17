// Streams, events, copies and the arena on a GPU.
#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <vector>

#include "runtime/arena.hpp"
#include "runtime/copy.hpp"
#include "runtime/device.hpp"
#include "runtime/stream.hpp"

namespace koios {
namespace {

class CudaRuntime : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (count_gpus() > 0) device_ = new DeviceEnv(Backend::cuda, 0);
  }
  static void TearDownTestSuite() { delete std::exchange(device_, nullptr); }
  void SetUp() override {
    if (device_ == nullptr) GTEST_SKIP() << "no GPU";
  }

  static Arena arena_of(std::int64_t bytes) {
    return {Backend::cuda, MemoryPlan{{{"test", bytes}}, bytes}};
  }

  static inline DeviceEnv* device_ = nullptr;
};

TEST_F(CudaRuntime, describes_the_device) {
  const DeviceInfo& info = device_->info();
  EXPECT_FALSE(info.name.empty());
  EXPECT_EQ(info.uuid.rfind("GPU-", 0), 0U) << info.uuid;
  EXPECT_EQ(info.uuid.size(), 40U) << info.uuid;
  EXPECT_NE(info.pci_bus.find(':'), std::string::npos);
  EXPECT_GT(info.memory_bytes, info.free_bytes);
}

TEST_F(CudaRuntime, copies_there_and_back_in_stream_order) {
  constexpr int kCount = 1'000'003;
  Arena arena = arena_of(2 * (4 * kCount + 1024));
  const auto a = arena.take<float>("a", kCount);
  const auto b = arena.take<float>("b", kCount);
  PinnedBuffer pinned(Backend::cuda, 4 * kCount);
  const auto host = make_ref(static_cast<float*>(pinned.data()), kCount);
  std::iota(host.data, host.data + kCount, 1.0F);

  Stream first(Backend::cuda, "first");
  Stream second(Backend::cuda, "second", -1);
  Event copied(Backend::cuda, true);
  Event done(Backend::cuda, true);
  copy(first, any(a), any(host));
  copied.record(first);
  second.wait(copied);
  copy(second, any(b), any(a));
  done.record(second);
  done.synchronize();
  EXPECT_TRUE(done.is_done());
  EXPECT_GT(done.seconds_since(copied), 0.0);

  std::vector<float> back(kCount);
  copy(second, any(make_ref(back.data(), kCount)), any(b));
  second.synchronize();
  EXPECT_EQ(back.front(), 1.0F);
  EXPECT_EQ(back.back(), static_cast<float>(kCount));
  fill_zero(second, any(b));
  copy(second, any(make_ref(back.data(), kCount)), any(b));
  second.synchronize();
  EXPECT_EQ(back.back(), 0.0F);
}

TEST_F(CudaRuntime, arena_is_zeroed) {
  Arena arena = arena_of(1 << 20);
  const auto all = arena.take<float>("all", 1 << 18);
  std::vector<float> back(1 << 18, 1.0F);
  Stream stream(Backend::cuda, "test");
  copy(stream, any(make_ref(back.data(), 1 << 18)), any(all));
  stream.synchronize();
  EXPECT_EQ(std::accumulate(back.begin(), back.end(), 0.0), 0.0);
}

TEST_F(CudaRuntime, a_plan_that_does_not_fit_is_the_users_error) {
  EXPECT_THROW(arena_of(std::int64_t{1} << 45), UserError);
}

}  // namespace
}  // namespace koios
