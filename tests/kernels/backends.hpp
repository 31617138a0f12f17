// What every kernel test needs: the {backend, element type} cases of this build, the device, and
// arrays in a backend's memory that are filled from and read back as double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "core/integers.hpp"
#include "core/ref.hpp"
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
/// For kernels that know one type only.
using FloatCases = ::testing::Types<Case<Backend::host, float>, Case<Backend::cuda, float>>;
#else
using Cases = ::testing::Types<Case<Backend::host, float>, Case<Backend::host, bf16>>;
using FloatCases = ::testing::Types<Case<Backend::host, float>>;
#endif

struct CaseName {
  template <class C>
  static std::string GetName(int) {
    return cat(to_string(C::backend), "_", to_string(dtype_of<typename C::T>));
  }
};

/// Starts Kokkos and the device once for the program. A CUDA build without a GPU cannot even run
/// its host kernels, so there every test is skipped.
class DeviceSession : public ::testing::Environment {
 public:
  static DeviceSession& get() {
    static auto* session = static_cast<DeviceSession*>(
        ::testing::AddGlobalTestEnvironment(new DeviceSession));  // gtest deletes it
    return *session;
  }
  void SetUp() override {
    if (is_built_in(Backend::cuda) && count_gpus() == 0) {
      GTEST_SKIP() << "this is the CUDA build and there is no GPU";
    }
    device_ =
        std::make_unique<DeviceEnv>(is_built_in(Backend::cuda) ? Backend::cuda : Backend::host, 0);
  }
  void TearDown() override { device_.reset(); }

 private:
  std::unique_ptr<DeviceEnv> device_;
};
inline DeviceSession& device_session = DeviceSession::get();

template <class Case>
class KernelTest : public ::testing::Test {
 protected:
  static constexpr Backend backend = Case::backend;
  using T = typename Case::T;

  Stream stream{backend, "test"};
};

/// A matrix in a backend's memory, with `gap` elements between its rows. Those are NaN and are
/// checked to be NaN still whenever the matrix is read.
template <class T>
class DeviceMatrix {
 public:
  /// All elements NaN.
  DeviceMatrix(Stream& s, std::int64_t rows, std::int64_t columns, std::int64_t gap = 0)
      : DeviceMatrix(s, rows, columns, gap, std::vector<double>(rows * columns, kNaN)) {}
  DeviceMatrix(Stream& s, std::int64_t rows, std::int64_t columns, std::int64_t gap,
               const std::vector<double>& values)
      : stream_(s), rows_(rows), columns_(columns), pitch_(columns + gap) {
    const std::int64_t bytes = rows * pitch_ * std::int64_t{sizeof(T)} + 1;  // never nothing
    arena_ = std::make_unique<Arena>(s.backend(),
                                     MemoryPlan{{{"test", round_up(bytes, Arena::kAlignment)}},
                                                round_up(bytes, Arena::kAlignment)});
    data_ = static_cast<T*>(arena_->take_bytes("test", bytes));
    write(values);
  }

  Ref<T, 2> ref() const { return {data_, {rows_, columns_}, pitch_}; }
  Ref<const T, 2> cref() const { return ref(); }

  void write(const std::vector<double>& values) {
    KOIOS_REQUIRE(std::ssize(values) == rows_ * columns_, values.size(), " values for ", rows_, "x",
                  columns_);
    std::vector<T> all(rows_ * pitch_, from_double(kNaN));
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < columns_; ++j) {
        all[i * pitch_ + j] = from_double(values[i * columns_ + j]);
      }
    }
    copy(stream_, whole(), {all.data(), rows_ * pitch_, dtype_of<T>});
    stream_.synchronize();
  }

  std::vector<double> read() const {
    const std::vector<T> all = bits();
    std::vector<double> values(rows_ * columns_);
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < pitch_; ++j) {
        const double value = to_double(all[i * pitch_ + j]);
        if (j < columns_) {
          values[i * columns_ + j] = value;
        } else {
          EXPECT_TRUE(std::isnan(value)) << "written between the rows, at " << i << ", " << j;
        }
      }
    }
    return values;
  }

  /// As it lies in memory.
  std::vector<T> bits() const {
    std::vector<T> all(rows_ * pitch_);
    copy(stream_, {all.data(), rows_ * pitch_, dtype_of<T>}, whole());
    stream_.synchronize();
    return all;
  }

 private:
  static constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

  static T from_double(double value) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(value);
    } else {
      return T(static_cast<float>(value));
    }
  }
  static double to_double(T value) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<double>(value);
    } else {
      return static_cast<float>(value);
    }
  }
  AnyRef whole() const { return {data_, rows_ * pitch_, dtype_of<T>}; }

  Stream& stream_;
  std::int64_t rows_, columns_, pitch_;
  std::unique_ptr<Arena> arena_;
  T* data_ = nullptr;
};

/// A vector in a backend's memory, `offset` elements away from where an allocation starts.
template <class T>
class DeviceVector {
 public:
  DeviceVector(Stream& s, const std::vector<double>& values, std::int64_t offset = 0)
      : offset_(offset), matrix_(s, 1, std::ssize(values) + offset, 0, padded(values, offset)) {}
  DeviceVector(Stream& s, std::initializer_list<double> values)
      : DeviceVector(s, std::vector<double>(values)) {}
  DeviceVector(Stream& s, std::int64_t size) : offset_(0), matrix_(s, 1, size) {}

  Ref<T, 1> ref() const {
    const Ref<T, 2> all = matrix_.ref();
    return make_ref(all.data + offset_, all.extent[1] - offset_);
  }
  Ref<const T, 1> cref() const { return ref(); }
  std::vector<double> read() const {
    auto values = matrix_.read();
    values.erase(values.begin(), values.begin() + offset_);
    return values;
  }
  std::vector<T> bits() const {
    auto all = matrix_.bits();
    all.erase(all.begin(), all.begin() + offset_);
    return all;
  }

 private:
  static std::vector<double> padded(std::vector<double> values, std::int64_t offset) {
    values.insert(values.begin(), offset, 0.0);
    return values;
  }

  std::int64_t offset_;
  DeviceMatrix<T> matrix_;
};

/// The largest magnitude; NaN if there is one.
inline double amax_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double v : values) {
    if (std::isnan(v)) return v;
    largest = std::max(largest, std::abs(v));
  }
  return largest;
}

/// run(amax): a kernel that writes `out` and raises amax. It is that of what is there afterwards,
/// and asking for it changes no bit.
template <class T, class Run>
void expect_amax_of(Stream& s, const DeviceMatrix<T>& out, const Run& run) {
  run(Ref<float, 1>{});
  const auto before = out.bits();
  for (const double low : {0.0, 1e30}) {
    const DeviceVector<float> amax(s, {low});
    run(amax.ref());
    const double found = amax_of(out.read());
    if (std::isnan(found)) {
      EXPECT_TRUE(std::isnan(amax.read()[0])) << amax.read()[0];
    } else {
      EXPECT_EQ(amax.read()[0], std::max(found, static_cast<double>(static_cast<float>(low))));
    }
    EXPECT_TRUE(std::memcmp(out.bits().data(), before.data(), before.size() * sizeof(T)) == 0);
  }
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace koios::test
