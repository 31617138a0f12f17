// What the GEMM and attention tests share: {backend, type} cases, matrices with a row pitch in the
// backend's memory, filled from and read back as double.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "core/integers.hpp"
#include "core/random.hpp"
#include "core/ref.hpp"
#include "kernels/math_handles.hpp"
#include "runtime/arena.hpp"
#include "runtime/copy.hpp"
#include "runtime/device.hpp"
#include "runtime/stream.hpp"

namespace koios::test {

template <Backend B, class Element>
struct Case {
  static constexpr Backend backend = B;
  using T = Element;
};

#if defined(KOIOS_CUDA)
using Cases = ::testing::Types<Case<Backend::host, float>, Case<Backend::host, bf16>,
                               Case<Backend::cuda, float>, Case<Backend::cuda, bf16>>;
#else
using Cases = ::testing::Types<Case<Backend::host, float>, Case<Backend::host, bf16>>;
#endif

struct CaseName {
  template <class C>
  static std::string GetName(int) {
    return std::string(to_string(C::backend)) + "_" +
           std::string(to_string(dtype_of<typename C::T>));
  }
};

/// Half a unit in the last place, relative.
template <class T>
inline constexpr double unit_roundoff = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-8;

/// Starts Kokkos once for the program. A CUDA build without a GPU cannot even run its host kernels.
class DeviceSession : public ::testing::Environment {
 public:
  static DeviceSession& get() {
    static auto* session = static_cast<DeviceSession*>(
        ::testing::AddGlobalTestEnvironment(new DeviceSession));  // gtest deletes it
    return *session;
  }
  void SetUp() override {
    if (is_built_in(Backend::cuda) && count_gpus() == 0) return;
    device_ =
        std::make_unique<DeviceEnv>(is_built_in(Backend::cuda) ? Backend::cuda : Backend::host, 0);
  }
  void TearDown() override { device_.reset(); }
  bool is_usable() const { return device_ != nullptr; }

 private:
  std::unique_ptr<DeviceEnv> device_;
};
inline DeviceSession& device_session = DeviceSession::get();

#define KOIOS_SKIP_WITHOUT_DEVICE() \
  if (!::koios::test::device_session.is_usable()) GTEST_SKIP() << "no GPU here"

inline Arena make_arena(Backend backend, std::int64_t bytes) {
  return Arena(backend, MemoryPlan{{{"test", bytes}}, bytes});
}

/// Uninitialised-looking bytes of scratch.
class Scratch {
 public:
  Scratch(Backend backend, std::int64_t bytes)
      : arena_(make_arena(backend, round_up(bytes + 1, Arena::kAlignment))),
        ref_(arena_.take<std::byte>("test", bytes)) {}
  Ref<std::byte, 1> ref() const { return ref_; }

 private:
  Arena arena_;
  Ref<std::byte, 1> ref_;
};

/// A matrix with a row pitch. What lies between the rows is NaN and must stay so.
template <class T>
class DeviceMatrix {
 public:
  DeviceMatrix(Stream& s, std::int64_t rows, std::int64_t columns, std::int64_t gap)
      : stream_(s),
        rows_(rows),
        columns_(columns),
        pitch_(columns + gap),
        memory_(s.backend(), rows * pitch_ * std::int64_t{sizeof(T)}) {
    write(std::vector<double>(rows * columns, std::numeric_limits<double>::quiet_NaN()));
  }

  Ref<T, 2> ref() const {
    return {reinterpret_cast<T*>(memory_.ref().data), {rows_, columns_}, pitch_};
  }
  Ref<const T, 2> cref() const { return ref(); }

  void write(const std::vector<double>& values) {
    std::vector<T> all(rows_ * pitch_, T(std::numeric_limits<float>::quiet_NaN()));
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < columns_; ++j) {
        all[i * pitch_ + j] = T(static_cast<float>(values[i * columns_ + j]));
      }
    }
    copy(stream_, whole(), {all.data(), rows_ * pitch_, dtype_of<T>});
    stream_.synchronize();
  }

  std::vector<double> read() const {
    std::vector<T> all(rows_ * pitch_);
    copy(stream_, {all.data(), rows_ * pitch_, dtype_of<T>}, whole());
    stream_.synchronize();
    std::vector<double> values(rows_ * columns_);
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < pitch_; ++j) {
        const auto value = static_cast<float>(all[i * pitch_ + j]);
        if (j < columns_) {
          values[i * columns_ + j] = value;
        } else {
          EXPECT_TRUE(std::isnan(value)) << "written between the rows, at " << i << ", " << j;
        }
      }
    }
    return values;
  }

 private:
  AnyRef whole() const { return {memory_.ref().data, rows_ * pitch_, dtype_of<T>}; }

  Stream& stream_;
  std::int64_t rows_, columns_, pitch_;
  Scratch memory_;
};

/// Normal deviates, already representable in T.
template <class T>
std::vector<double> random_values(std::int64_t count, std::uint64_t seed) {
  std::vector<double> values(count);
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(T(static_cast<float>(normal_at(seed, 0, i, 6.0))));
  }
  return values;
}

}  // namespace koios::test
