// With training/fp8_scales = previous: the largest magnitudes (amax) that a step finds in its
// tensors make the scales of the next one. So a kernel that computes a tensor casts it at once:
// what would otherwise be written, and read again for its cast, never is.
//
// A scale maps kFp8Margin times the old amax to the largest 8-bit number, so that only a tensor
// that grows more than so between two steps saturates; that is counted. The margin costs no
// precision: 8-bit numbers have exponents. It takes one binade from the smallest ones, of 18 (e4m3)
// or 32.
//
// A place is a tensor of a block, the same for all micro-batches. Before its first amax is known
// (after a start, and as long as it is 0 or not finite) its tensors are scaled by their own. A step
// whose gradient norm is not finite changes nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ref.hpp"
#include "runtime/arena.hpp"
#include "runtime/copy.hpp"
#include "runtime/stream.hpp"

namespace koios {

inline constexpr float kFp8Margin = 2;

struct Fp8HistoryBuffers {
  Ref<float, 1> bound;  // by place: kFp8Margin times the amax of an older step; 0: unknown
  Ref<float, 1> found;  // the amax of this step until now

  Fp8HistoryBuffers() = default;
  Fp8HistoryBuffers(Arena& arena, std::int64_t places);
};

class Fp8History {
 public:
  /// places: those that are in use.
  Fp8History(const Fp8HistoryBuffers& buffers, const std::vector<int>& places, Stream& compute);

  /// Forgets what was found since the last step, as an evaluation may have. The host waits for the
  /// step before, as long as there was one and a place in use is unknown.
  void begin_step();
  void end_step(Ref<const float, 1> grad_norm);

  bool is_used(int place) const { return used_[index(place)]; }
  /// The same within a step, and in what is evaluated after it.
  bool is_known(int place) const { return known_[index(place)]; }
  Ref<const float, 1> bound(int place) const { return slice(buffers_.bound, place, 1); }
  Ref<float, 1> found(int place) const { return slice(buffers_.found, place, 1); }

 private:
  static std::size_t index(int place) { return static_cast<std::size_t>(place); }

  Fp8HistoryBuffers buffers_;
  Stream& compute_;
  std::vector<bool> used_, known_;
  PinnedBuffer copy_;  // of the bounds
  Event copied_;
  bool is_copied_ = false;
};

}  // namespace koios
