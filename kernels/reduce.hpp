// Sums over long arrays in a fixed order (the same bits every time), results left in the
// backend's memory so that nothing waits.
#pragma once

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// Entries of scratch that the sums need.
inline constexpr std::int64_t kSumPartials = 1024;

/// out[0] (+)= sum of x; float32 over short pieces, double over those, float32 trees between
/// threads.
void sum(Stream& s, Ref<float, 1> out, Ref<const float, 1> x, Ref<float, 1> partials,
         bool accumulate);

/// out[0] (+)= sum of x^2.
void sum_of_squares(Stream& s, Ref<float, 1> out, Ref<const float, 1> x, Ref<float, 1> partials,
                    bool accumulate);

/// What clip_scale makes of a norm that is not finite.
enum class Nonfinite { skip, apply };

/// From norm_squared[0]: norm[0] = sqrt, and scale[0] = min(1, max_norm / (norm + 1e-6));
/// max_norm <= 0 means no clipping (scale 1). A norm that is not finite gives scale 0, which marks
/// a step to be skipped; with Nonfinite::apply it gives what clipping does without looking: NaN for
/// NaN, next to 0 for infinity.
void clip_scale(Stream& s, Ref<float, 1> norm, Ref<float, 1> scale,
                Ref<const float, 1> norm_squared, float max_norm, Nonfinite nonfinite);

}  // namespace koios
