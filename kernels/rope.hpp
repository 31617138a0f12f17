// Rotary position embedding in Meta's interleaved convention: the pair (x[2i], x[2i+1]) of each
// head turns by the angle t * theta^(-2i/E) at position t. ref: Su et al. 2021, eq. 34.
// Legend: N = B*T rows, T tokens of a sequence that are here, heads*E columns, E head size.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "kernels/fp8.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// table_TE[t] = cos(angle_0), sin(angle_0), cos(angle_1), ... of the position first + t, computed
/// in double, stored in float.
void rope_table(Stream& s, Ref<float, 2> table_TE, double theta, std::int64_t first = 0);

/// Turns every head of x in place; row n turns as the table's row n % T says. x is a slice with a
/// pitch; its row size is a multiple of E. (Query and key heads lie side by side: one call turns
/// both.)
template <class T>
void rope_forward(Stream& s, Ref<T, 2> x, Ref<const float, 2> table_TE);

/// The transposed rotation, for gradients. amax, where it is not empty: one float that is raised to
/// the largest magnitude of what is written.
template <class T>
void rope_backward(Stream& s, Ref<T, 2> dx, Ref<const float, 2> table_TE, Ref<float, 1> amax = {});

/// The transposed rotation of dx's first `turned` columns, which are whole heads; cast at once,
/// with the columns that follow: the bits of the above and of a cast with transpose after it, but
/// that infinities become NaN. dx stays as it is. q.q_NK is not empty.
template <class T>
void rope_backward_to_fp8(Stream& s, const Fp8Output<fp8_e5m2>& q, Ref<const T, 2> dx,
                          std::int64_t turned, Ref<const float, 2> table_TE);

}  // namespace koios
