#include "kernels/adamw.hpp"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <map>
#include <numeric>
#include <string>

#include "core/random.hpp"
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

// ---- moments in bfloat16 ----

/// A part of a parameter: rows and columns of the whole, kept one row after the other.
struct Part {
  const char* name;
  std::int64_t rows, cols;  // of the whole
  std::int64_t first_row, first_col;
  std::int64_t local_rows, local_cols;

  std::int64_t size() const { return local_rows * local_cols; }
  std::int64_t element(std::int64_t i) const {
    return (first_row + i / local_cols) * cols + first_col + i % local_cols;
  }
};

Part whole(const char* name, std::int64_t rows, std::int64_t cols) {
  return {name, rows, cols, 0, 0, rows, cols};
}
Part rows_of(Part p, std::int64_t first, std::int64_t count) {
  return {p.name, p.rows, p.cols, first, 0, count, p.cols};
}
Part columns_of(Part p, std::int64_t first, std::int64_t count) {
  return {p.name, p.rows, p.cols, 0, first, p.rows, count};
}

const Part kMatrix = whole("matrix", 37, 20), kWide = whole("wide", 24, 1026),
           kVector = whole("vector", 509, 1), kLarge = whole("large", 300, 64);

/// Parts in a flat shard, each at a multiple of 128 elements, what is between them zero.
class Shard {
 public:
  explicit Shard(std::vector<Part> parts) : parts_(std::move(parts)) {
    for (const Part& p : parts_) {
      places_.push_back({.begin = size_,
                         .stream = stream_of(p.name),
                         .first = p.element(0),
                         .cols = p.local_cols,
                         .pitch = p.cols});
      size_ += round_up(p.size(), std::int64_t{128});
    }
  }

  /// value(part, element) where there is one.
  std::vector<double> fill(const std::function<double(const Part&, std::int64_t)>& value) const {
    std::vector<double> all(static_cast<std::size_t>(size_), 0.0);
    for_each(
        [&](const Part& p, std::int64_t element, std::size_t at) { all[at] = value(p, element); });
    return all;
  }
  /// f(part, element of the whole, index in the shard).
  template <class F>
  void for_each(const F& f) const {
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      for (std::int64_t i = 0; i < parts_[k].size(); ++i) {
        f(parts_[k], parts_[k].element(i), static_cast<std::size_t>(places_[k].begin + i));
      }
    }
  }
  std::int64_t size() const { return size_; }
  const std::vector<ElementPlace>& places() const { return places_; }

 private:
  std::vector<Part> parts_;
  std::vector<ElementPlace> places_;
  std::int64_t size_ = 0;
};

/// The same numbers for the same element, wherever it lies.
double start(const Part& p, std::int64_t element, std::uint64_t what) {
  return static_cast<float>(
      normal_at(what, stream_of(p.name), static_cast<std::uint64_t>(element), 9));
}

constexpr AdamStep kStep{.lr = 1e-2,
                         .beta2 = 0.95,
                         .weight_decay = 0.1,
                         .bias_correction1 = 0.1,
                         .bias_correction2 = 0.05};
constexpr std::uint64_t kKey = key_of_step(7, 3);

/// A shard in a backend's memory, and updates of it.
class NarrowMoments {
 public:
  NarrowMoments(Stream& s, const Shard& shard, std::int64_t offset = 0)
      : stream_(s),
        p(s, shard.fill([](const Part& q, std::int64_t i) { return start(q, i, 1); }), offset),
        m(s, shard.fill([](const Part& q, std::int64_t i) { return start(q, i, 2); }), offset),
        v(s, shard.fill([](const Part& q, std::int64_t i) { return std::abs(start(q, i, 3)); }),
          offset),
        g(s, shard.fill([](const Part& q, std::int64_t i) { return start(q, i, 4); }), offset),
        scale_(s, {0.5}),
        places_(s, std::vector<double>(
                       shard.places().size() * sizeof(ElementPlace) / sizeof(std::int64_t), 0.0)),
        count_(std::ssize(shard.places())) {
    auto* words = const_cast<ElementPlace*>(shard.places().data());
    copy(s, any(places_.ref()), {words, places_.ref().size(), DType::int64});
    s.synchronize();
  }

  void update(const AdamStep& step = kStep, std::uint64_t key = kKey) {
    const auto* places = reinterpret_cast<const ElementPlace*>(places_.ref().data);
    adam_update(stream_, p.ref(), m.ref(), v.ref(), g.cref(), scale_.cref(), step, {},
                {key, make_ref(places, count_)});
  }

 private:
  Stream& stream_;

 public:
  DeviceVector<float> p;
  DeviceVector<bf16> m, v;
  DeviceVector<float> g;

 private:
  DeviceVector<float> scale_;
  DeviceVector<std::int64_t> places_;
  std::int64_t count_;
};

/// What the update makes of one element before it rounds; in double.
struct Exact {
  double p, m, v;

  Exact(double p0, double m0, double v0, double g0) : p(p0), m(m0), v(v0) {
    reference::Values one_p{p}, one_m{m}, one_v{v};
    reference::adam_update({kStep.lr, kStep.beta1, kStep.beta2, kStep.eps, kStep.weight_decay, true,
                            kStep.bias_correction1, kStep.bias_correction2},
                           0.5, {g0}, one_p, one_m, one_v);
    p = one_p[0];
    m = one_m[0];
    v = one_v[0];
  }
};

/// Rounded with this draw, from a value that is off by at most `error`.
void expect_rounded(double got, double exact, double error, std::uint32_t draw) {
  const float low = bf16::randomly(static_cast<float>(exact - error), draw).operator float();
  const float high = bf16::randomly(static_cast<float>(exact + error), draw).operator float();
  ASSERT_GE(got, low);
  ASSERT_LE(got, high);
}

TYPED_TEST(Adam, narrow_moments_match_the_reference_with_the_same_draws) {
  const Shard shard({kMatrix, kVector, columns_of(kWide, 3, 510), kLarge});
  for (const std::int64_t offset : {0, 8, 1}) {
    SCOPED_TRACE(cat("offset ", offset));
    NarrowMoments state(this->stream, shard, offset);
    const auto p0 = state.p.read(), m0 = state.m.read(), v0 = state.v.read(), g = state.g.read();
    state.update();
    const auto p = state.p.read(), m = state.m.read(), v = state.v.read();
    shard.for_each([&](const Part& part, std::int64_t element, std::size_t i) {
      const Exact want(p0[i], m0[i], v0[i], g[i]);
      const std::uint32_t draw =
          element_draw(kKey, stream_of(part.name), static_cast<std::uint64_t>(element));
      const double u = test::unit_roundoff<float>;
      // Six roundings of the largest term.
      expect_rounded(m[i], want.m, 6 * u * (std::abs(m0[i]) + std::abs(g[i])), draw & 0xffff);
      expect_rounded(v[i], want.v, 6 * u * (v0[i] + g[i] * g[i]), draw >> 16);
      ASSERT_NEAR(p[i], want.p, 1e-6 * (std::abs(p0[i]) + 1)) << part.name << " " << element;
    });
  }
}

TYPED_TEST(Adam, narrow_moments_are_the_same_however_they_are_cut) {
  NarrowMoments all(this->stream, Shard({kMatrix, kWide, kVector, kLarge}));
  all.update();
  const Shard in_whole({kMatrix, kWide, kVector, kLarge});
  std::map<std::string, std::vector<std::array<double, 3>>> want;
  const auto p = all.p.read(), m = all.m.read(), v = all.v.read();
  in_whole.for_each([&](const Part& part, std::int64_t, std::size_t i) {
    want[part.name].push_back({p[i], m[i], v[i]});
  });
  const std::vector<std::vector<Part>> cuts = {
      {rows_of(kMatrix, 0, 13), columns_of(kWide, 0, 513), rows_of(kVector, 0, 255)},
      {rows_of(kMatrix, 13, 24), columns_of(kWide, 513, 513), rows_of(kVector, 255, 254)},
      {columns_of(kWide, 5, 3), columns_of(kLarge, 16, 48)},
      {rows_of(kLarge, 299, 1), rows_of(kVector, 1, 1), columns_of(kMatrix, 19, 1)}};
  for (const auto& parts : cuts) {
    for (const std::int64_t offset : {0, 1}) {
      const Shard shard(parts);
      NarrowMoments cut(this->stream, shard, offset);
      cut.update();
      const auto cut_p = cut.p.read(), cut_m = cut.m.read(), cut_v = cut.v.read();
      shard.for_each([&](const Part& part, std::int64_t element, std::size_t i) {
        const std::array<double, 3> got{cut_p[i], cut_m[i], cut_v[i]};
        ASSERT_EQ(got, want[part.name][static_cast<std::size_t>(element)])
            << part.name << " " << element << " at " << i;
      });
      // Padding stays zero: it is gathered with the rows.
      std::vector<double> rest = cut_v;
      shard.for_each([&](const Part&, std::int64_t, std::size_t i) { rest[i] = 0; });
      EXPECT_EQ(rest, std::vector<double>(rest.size(), 0.0));
    }
  }
}

TYPED_TEST(Adam, narrow_moments_have_the_mean_of_wide_ones) {
  // 2000 steps without a gradient at beta2 = 0.999: v falls to 0.135 of itself. Rounded to nearest
  // it would not move. One step's rounding has a standard deviation of at most 2^-8 v: over 2000
  // steps 0.18 of v, in the mean over 19200 elements 0.0013.
  const Shard shard({kLarge});
  NarrowMoments state(this->stream, shard);
  const std::vector<double> ones(static_cast<std::size_t>(shard.size()), 1.0);
  const std::vector<double> none(static_cast<std::size_t>(shard.size()), 0.0);
  DeviceVector<float> p(this->stream, none), g(this->stream, none), scale(this->stream, {1.0});
  const auto fill_in = [&](DeviceVector<bf16>& vector, const std::vector<double>& values) {
    const DeviceVector<bf16> from(this->stream, values);
    copy(this->stream, any(vector.ref()), any(from.ref()));
    this->stream.synchronize();
  };
  fill_in(state.m, ones);
  fill_in(state.v, ones);
  copy(this->stream, any(state.g.ref()), any(g.ref()));
  AdamStep step = kStep;
  step.beta1 = step.beta2 = 0.999;
  for (std::int64_t t = 1; t <= 2000; ++t) state.update(step, key_of_step(1, t));
  const double want = std::pow(0.999, 2000);
  for (const auto& moment : {state.m.read(), state.v.read()}) {
    const double mean = std::accumulate(moment.begin(), moment.end(), 0.0) / shard.size();
    EXPECT_NEAR(mean / want, 1, 0.006);
  }
}

TYPED_TEST(Adam, narrow_moments_keep_nan_and_stay_when_a_step_is_skipped) {
  const Shard shard({kVector});
  NarrowMoments state(this->stream, shard);
  auto gradients = state.g.read();
  gradients[3] = std::numeric_limits<double>::quiet_NaN();
  gradients[4] = std::numeric_limits<double>::infinity();
  gradients[5] = 1e30;  // its square is beyond float32
  const DeviceVector<float> g(this->stream, gradients);
  copy(this->stream, any(state.g.ref()), any(g.ref()));
  this->stream.synchronize();
  state.update();
  const auto m = state.m.read(), v = state.v.read();
  EXPECT_TRUE(std::isnan(m[3]) && std::isnan(v[3]));
  EXPECT_TRUE(std::isinf(m[4]) && std::isinf(v[4]));
  EXPECT_TRUE(std::isfinite(m[5]) && std::isinf(v[5]));
  for (std::size_t i = 6; i < 509; ++i) ASSERT_TRUE(std::isfinite(m[i]) && std::isfinite(v[i]));

  const auto m_bits = state.m.bits(), v_bits = state.v.bits();
  const DeviceVector<float> none(this->stream, {0.0});
  DeviceVector<std::int64_t> unused(this->stream, std::vector<double>(5, 0.0));
  adam_update(this->stream, state.p.ref(), state.m.ref(), state.v.ref(), state.g.cref(),
              none.cref(), kStep, {},
              {kKey, make_ref(reinterpret_cast<const ElementPlace*>(unused.ref().data), 1)});
  EXPECT_TRUE(test::same_bits(m_bits, state.m.bits()));
  EXPECT_TRUE(test::same_bits(v_bits, state.v.bits()));
}

}  // namespace
}  // namespace koios
