#include "kernels/adamw.hpp"

#include <gtest/gtest.h>

#include "kernels/elementwise.hpp"
#include "tests/kernels/backends.hpp"
#include "tests/kernels/compare.hpp"
#include "tests/kernels/reference.hpp"

namespace koios {
namespace {

using test::DeviceVector;
using test::random_values;

template <class Case>
class Adam : public test::KernelTest<Case> {};
TYPED_TEST_SUITE(Adam, test::FloatCases, test::CaseName);

/// Distances stay within `steps` roundings of the largest magnitude that went into the element.
void expect_near(const std::vector<double>& got, const std::vector<double>& want,
                 const std::vector<double>& size, double steps) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], steps * test::unit_roundoff<float> * size[i]) << "element " << i;
  }
}

TYPED_TEST(Adam, five_steps_match_reference) {
  for (const std::int64_t size : {1, 17, 509, 20000}) {
    for (const std::int64_t offset : {0, 1, 4}) {
      for (const bool decoupled : {true, false}) {
        SCOPED_TRACE(cat(size, " at ", offset, decoupled ? ", AdamW" : ", Adam"));
        auto p = random_values<float>(size, 1), m = std::vector<double>(size, 0.0), v = m;
        DeviceVector<float> p_dev(this->stream, p, offset), m_dev(this->stream, m, offset);
        DeviceVector<float> v_dev(this->stream, v, offset);
        AdamStep step{.lr = 1e-2, .beta2 = 0.999, .weight_decay = 0.1, .decoupled = decoupled};
        const double scale = 0.5;
        std::vector<double> p_size(size), m_size(size), v_size(size);
        for (int t = 1; t <= 5; ++t) {
          const auto g = random_values<float>(size, 10 + t);
          DeviceVector<float> g_dev(this->stream, g, offset), scale_dev(this->stream, {scale});
          step.bias_correction1 = 1 - std::pow(step.beta1, t);
          step.bias_correction2 = 1 - std::pow(step.beta2, t);
          adam_update(this->stream, p_dev.ref(), m_dev.ref(), v_dev.ref(), g_dev.cref(),
                      scale_dev.cref(), step);
          reference::adam_update({step.lr, step.beta1, step.beta2, step.eps, step.weight_decay,
                                  decoupled, step.bias_correction1, step.bias_correction2},
                                 scale, g, p, m, v);
          for (std::int64_t i = 0; i < size; ++i) {
            const double gi =
                std::abs(g[i] * scale) + (decoupled ? 0 : 0.1 * std::abs(p[i]) + 1e-3);
            p_size[i] = std::max(p_size[i], std::abs(p[i]) + 4 * step.lr);
            m_size[i] = std::max(m_size[i], std::abs(m[i]) + gi);
            v_size[i] = std::max(v_size[i], v[i] + gi * gi);
          }
        }
        // Five steps of about six roundings each. An update's size is lr * |m| / sqrt(v) < 4 lr,
        // and where m is small against its terms the update is off by as much as they are.
        expect_near(m_dev.read(), m, m_size, 30);
        expect_near(v_dev.read(), v, v_size, 30);
        expect_near(p_dev.read(), p, p_size, 60);
      }
    }
  }
}

TYPED_TEST(Adam, a_scale_of_zero_changes_nothing) {
  const auto p = random_values<float>(100, 1), m = random_values<float>(100, 2);
  const auto v = std::vector<double>(100, 0.5);
  const auto g = std::vector<double>(100, std::numeric_limits<double>::quiet_NaN());
  DeviceVector<float> p_dev(this->stream, p), m_dev(this->stream, m), v_dev(this->stream, v);
  DeviceVector<float> g_dev(this->stream, g), scale_dev(this->stream, {0.0});
  adam_update(this->stream, p_dev.ref(), m_dev.ref(), v_dev.ref(), g_dev.cref(), scale_dev.cref(),
              {.lr = 1, .weight_decay = 0.1});
  EXPECT_EQ(p_dev.read(), p);
  EXPECT_EQ(m_dev.read(), m);
  EXPECT_EQ(v_dev.read(), v);
}

TYPED_TEST(Adam, writes_rounded_parameters_and_changes_no_bit) {
  const std::int64_t size = 20011;
  const AdamStep step{.lr = 1e-2, .weight_decay = 0.1};
  auto p = random_values<float>(size, 1);
  p[7] = std::numeric_limits<double>::infinity();
  const auto m = random_values<float>(size, 2), g = random_values<float>(size, 3);
  const std::vector<double> v(size, 0.5), before(size, 3.0);
  for (const std::int64_t offset : {0, 1}) {
    for (const double scale : {0.5, 0.0}) {
      SCOPED_TRACE(cat("offset ", offset, ", scale ", scale));
      DeviceVector<float> g_dev(this->stream, g, offset), scale_dev(this->stream, {scale});
      DeviceVector<float> p0(this->stream, p, offset), m0(this->stream, m, offset);
      DeviceVector<float> v0(this->stream, v, offset), p1(this->stream, p, offset);
      DeviceVector<float> m1(this->stream, m, offset), v1(this->stream, v, offset);
      DeviceVector<bf16> rounded(this->stream, before, offset), want(this->stream, before, offset);
      adam_update(this->stream, p0.ref(), m0.ref(), v0.ref(), g_dev.cref(), scale_dev.cref(), step);
      adam_update(this->stream, p1.ref(), m1.ref(), v1.ref(), g_dev.cref(), scale_dev.cref(), step,
                  rounded.ref());
      if (scale != 0) cast(this->stream, want.ref(), p0.cref());
      EXPECT_TRUE(test::same_bits(p0.bits(), p1.bits()));
      EXPECT_TRUE(test::same_bits(m0.bits(), m1.bits()));
      EXPECT_TRUE(test::same_bits(v0.bits(), v1.bits()));
      EXPECT_TRUE(test::same_bits(rounded.bits(), want.bits()));
    }
  }
}

}  // namespace
}  // namespace koios
