// The weights of a unit, gathered from all ranks' float32 masters into the compute type. What is
// gathered when is the step's list of actions (pipeline/actions.hpp):
//
//   weights.gather(l + 1);               // all-gather on the gather stream
//   auto w = weights.acquire(l);         // the compute stream waits for block l
//   block.forward(..., w.view(), ...);   // w's destructor lets the buffer be used again
//
// comm: one grouped all-gather per unit over the shard group, on its own stream; the master rows
// are cast straight into this rank's place in the full array and gathered in place, or gathered
// from a cast shard that is kept. On one rank there is nothing to gather: the cast shard, or in
// float32 the masters, are the weights.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "comm/communicator.hpp"
#include "runtime/arena.hpp"
#include "runtime/stream.hpp"
#include "shard/exposed_wait.hpp"
#include "shard/fp8_weights.hpp"
#include "shard/layout.hpp"
#include "shard/slots.hpp"
#include "shard/unit_view.hpp"

namespace koios {

struct GatherOptions {
  /// Give a block's buffer to another block after its forward pass and gather again for the
  /// backward pass (ZeRO-3); false keeps every block gathered for the whole step (ZeRO-2).
  bool reshard_after_forward = true;
  int prefetch_blocks = 1;
  /// The matrices of blocks as 8-bit values, by which scales: shard/fp8_weights.hpp.
  std::optional<Fp8ScaleKind> narrow{};
  /// Without `narrow`: keep this rank's rows in the compute type beside the float32 masters, cast
  /// by the update instead of by each gather.
  bool keep_cast = false;
};

/// What weights are made in; absent where the masters serve.
template <class T>
struct GatherBuffers {
  /// Laid out as the masters. Where a rank holds all rows it is the weights.
  std::optional<Ref<T, 1>> cast;
  std::optional<UnitSlots<T>> slots;
  std::optional<WeightScaleBuffers> scales;  // with GatherOptions::narrow

  GatherBuffers(Arena& arena, const ShardLayout& layout, const GatherOptions& options);
};

/// Whether this rank's rows are kept in the compute type, which the update then writes, too.
bool keeps_cast(DType compute, const GatherOptions& options);
/// Whether weights must be made from the masters before they are used.
bool must_gather(DType compute, const ShardLayout& layout, const GatherOptions& options);
/// Payload bytes of one gather of a unit's WeightValues, padding rows included.
std::int64_t gathered_bytes(const UnitLayout& unit, DType compute, const ShardLayout& layout,
                            const GatherOptions& options, unsigned values);
/// How many buffers the blocks share.
int gather_block_buffers(DType compute, const ShardLayout& layout, const GatherOptions& options);

template <class T>
class WeightGather {
 public:
  /// scales: with matrices in FP8, else null.
  WeightGather(const ShardLayout& layout, GatherBuffers<T> buffers, Ref<const float, 1> masters,
               WeightScales* scales, Communicator& group, Stream& compute, Stream& gather,
               ExposedWait& exposed);

  /// While it lives, the unit's weights stay where they are.
  class Lease {
   public:
    Lease(Lease&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), unit_(other.unit_) {}
    Lease& operator=(Lease&&) = delete;
    /// May throw what the device refuses. With another exception in flight the step ends anyway,
    /// and the unit stays leased.
    ~Lease() noexcept(false);
    UnitView<const T> view() const;

   private:
    friend class WeightGather;
    Lease(WeightGather* owner, int unit) : owner_(owner), unit_(unit) {}
    WeightGather* owner_;
    int unit_;
  };

  /// Starts gathering `unit`'s WeightValues into its buffer, whose last user has been released.
  void gather(int unit, unsigned values = kAllValues);
  /// The unit must have been gathered since the masters changed.
  Lease acquire(int unit);
  /// For an update that writes it beside the masters; empty where none is kept.
  Ref<T, 1> cast_shard() const { return buffers_.cast.value_or(Ref<T, 1>{}); }
  /// The masters changed on the compute stream: what was gathered is stale, and so is the cast
  /// shard, unless the update wrote it.
  void invalidate(bool is_cast);

 private:
  struct Slot {
    int unit = -1;  // which unit's current weights it holds
    Event ready;
    Event released;
  };
  /// What of a unit's buffer is 8-bit, in elements of its full array.
  std::int64_t narrow_end(const UnitLayout& unit) const {
    return scales_ != nullptr ? narrow_elements(unit) : 0;
  }
  struct Gathered {
    AnyRef mine, full;
  };
  /// Casts this rank's rows where they are not kept, and adds what is to be gathered.
  void cast_mine(int unit, int parameter, unsigned values, std::vector<Gathered>& parts);
  /// The unit's part of the kept shard, unless that holds its current rows.
  void refresh_cast(int unit);
  fp8_e4m3* narrow_part(int unit) const {
    return reinterpret_cast<fp8_e4m3*>(buffers_.slots->of(unit).data);
  }
  T* wide_part(int unit) const {
    const std::int64_t narrow = narrow_end(layout_.unit(unit));
    const int values = scales_ != nullptr ? narrow_values(scales_->kind()) : 1;
    return reinterpret_cast<T*>(narrow_part(unit) + narrow * values);
  }
  Slot& slot_of(int unit) {
    return slots_[buffers_.slots ? buffers_.slots->slot(unit) : static_cast<std::size_t>(unit)];
  }

  const ShardLayout& layout_;
  GatherBuffers<T> buffers_;
  Ref<const float, 1> masters_;
  WeightScales* scales_;
  Communicator& group_;
  Stream& compute_;
  Stream& stream_;
  std::vector<Slot> slots_;    // of the buffers; without these one for each unit
  std::vector<bool> is_cast_;  // by unit: the kept shard holds its current rows
  ExposedWait& exposed_;
  Event updated_;
};

}  // namespace koios
