#include "train/step_results.hpp"

#include <atomic>
#include <cmath>
#include <cstring>

#include "core/error.hpp"

namespace koios {
namespace {

constexpr float kNotYet = -1;  // no norm

}  // namespace

StepResults::StepResults(Backend backend, std::int64_t capacity, std::int64_t tokens)
    : capacity_(capacity),
      tokens_(tokens),
      values_(backend, capacity * 2 * std::int64_t{sizeof(float)}),
      fp8_counts_(backend, sizeof(Fp8Counts)),
      last_(backend) {
  std::memset(fp8_counts_.data(), 0, sizeof(Fp8Counts));
}

void StepResults::record(Stream& compute, Ref<const float, 1> loss_sum,
                         Ref<const float, 1> grad_norm, Ref<const std::int64_t, 1> fp8_counts) {
  KOIOS_REQUIRE(!full(), "results of ", capacity_, " steps are waiting");
  float* slot = static_cast<float*>(values_.data()) + 2 * count_++;
  slot[1] = kNotYet;
  copy(compute, any(make_ref(slot, 1)), any(loss_sum));
  copy(compute, any(make_ref(slot + 1, 1)), any(grad_norm));
  if (fp8_counts.data != nullptr) {
    auto* counts = static_cast<std::int64_t*>(fp8_counts_.data());
    copy(compute, any(make_ref(counts, kFp8Counts)), any(fp8_counts));
  }
  last_.record(compute);
}

bool StepResults::has_nonfinite() const {
  auto* value = static_cast<float*>(values_.data());
  for (std::int64_t i = 0; i < count_; ++i) {
    // The device writes it, the norm behind the loss.
    const float norm = std::atomic_ref<float>(value[2 * i + 1]).load();
    if (norm == kNotYet) return false;
    if (!std::isfinite(norm)) return true;
  }
  return false;
}

std::vector<StepResult> StepResults::read() {
  last_.synchronize();
  std::vector<StepResult> results;
  const float* value = static_cast<const float*>(values_.data());
  for (std::int64_t i = 0; i < count_; ++i) {
    results.push_back({static_cast<double>(value[2 * i]) / static_cast<double>(tokens_),
                       static_cast<double>(value[2 * i + 1])});
  }
  count_ = 0;
  return results;
}

Fp8Counts StepResults::fp8_counts() const {
  Fp8Counts counts;
  std::memcpy(counts.data(), fp8_counts_.data(), sizeof(counts));
  return counts;
}

}  // namespace koios
