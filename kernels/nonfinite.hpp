// NaN and infinity: how many there are, where a step has gone wrong, and that the step notices. No
// call waits for the device.
#pragma once

#include <cstdint>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// count[0] += how many elements of x are not finite.
template <class T>
void count_nonfinite(Stream& s, Ref<std::int32_t, 1> count, Ref<const T, 2> x);

/// Stretches of float32 values anywhere in the backend's memory, listed in that memory: pairs of an
/// address and a number of elements.
using Stretches = Ref<const std::int64_t, 2>;

/// count[k] += how many elements of stretch k are not finite, where gate[0] is 1; else it reads
/// nothing.
void count_nonfinite_if(Stream& s, Ref<std::int32_t, 1> count, const Stretches& stretches,
                        Ref<const std::int32_t, 1> gate);

/// gate[0] goes from 0 to 1 where value[0] is not finite, and from there to 2 with the next call:
/// it is 1 at the first such value only.
void open_gate(Stream& s, Ref<std::int32_t, 1> gate, Ref<const float, 1> value);

/// Where value[0] is not finite, sum[0] becomes NaN; else it stays.
void spoil(Stream& s, Ref<float, 1> sum, Ref<const float, 1> value);

}  // namespace koios
