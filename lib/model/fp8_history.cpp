#include "model/fp8_history.hpp"

#include "core/integers.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/fp8.hpp"

namespace koios {

Fp8HistoryBuffers::Fp8HistoryBuffers(Arena& arena, std::int64_t places) {
  constexpr std::string_view kLabel = "scales of the step before";
  bound = arena.take<float>(kLabel, places);
  found = arena.take<float>(kLabel, places);
}

Fp8History::Fp8History(const Fp8HistoryBuffers& buffers, const std::vector<int>& places,
                       Stream& compute)
    : buffers_(buffers),
      compute_(compute),
      used_(static_cast<std::size_t>(buffers.bound.size())),
      known_(used_.size()),
      copy_(compute.backend(), buffers.bound.size() * std::int64_t{sizeof(float)}),
      copied_(compute.backend()) {
  for (const int place : places) used_[index(place)] = true;
  fill(compute, buffers.bound, 0);
}

void Fp8History::begin_step() {
  fill(compute_, buffers_.found, 0);
  if (!is_copied_) return;
  is_copied_ = false;
  copied_.synchronize();
  const float* bound = static_cast<const float*>(copy_.data());
  for (std::size_t i = 0; i < used_.size(); ++i) known_[i] = used_[i] && bound[i] > 0;
}

void Fp8History::end_step(Ref<const float, 1> grad_norm) {
  set_bounds(compute_, buffers_.bound, buffers_.found, kFp8Margin, grad_norm);
  if (known_ == used_) return;
  copy(compute_, any(make_ref(static_cast<float*>(copy_.data()), buffers_.bound.size())),
       any(buffers_.bound));
  copied_.record(compute_);
  is_copied_ = true;
}

}  // namespace koios
