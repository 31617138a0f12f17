// A copy of this rank's masters and moments in host memory, from which a thread saves while
// training goes on. On a GPU the copy runs on a stream of its own behind the next step's
// computation:
//
//   compute   ... update s | forward, backward s+1 ......... wait(copied) | update s+1
//   copy                   | wait(update s) copy ... copied |
//
// Only the optimizer writes what is copied, so only the update has to wait.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/staging_memory.hpp"
#include "runtime/stream.hpp"
#include "shard/parameters.hpp"

namespace koios {

/// Masters and moments, in flat shard layout, wherever they lie.
struct SavedValues {
  Ref<float, 1> master;
  AnyRef exp_avg;
  AnyRef exp_avg_sq;
};
inline SavedValues values_of(const ParameterBuffers& p) {
  return {p.master, p.exp_avg, p.exp_avg_sq};
}

class SaveStaging {
 public:
  /// Host memory it takes.
  static std::int64_t bytes(const ShardLayout& layout, DType moments);

  SaveStaging(Backend backend, const ShardLayout& layout, DType moments);
  /// Takes the memory: seconds for tens of GiB. From any thread, before the rest.
  void allocate();

  /// Between the same two steps on all ranks (the first time it may wait for the device). Enqueues
  /// the copy of what the values are once `compute` is where it is now. On the host it is
  /// done at once.
  void copy_from(const SavedValues& values, Stream& compute);
  /// What must be waited for before the values change.
  const Event& copied() const { return copied_; }
  /// The copy, once it is done: waits for it. From any thread that may use the device.
  SavedValues wait();

 private:
  Backend backend_;
  std::int64_t elements_;
  DType moments_;
  std::int64_t bytes_;
  std::optional<StagingMemory> memory_;
  Stream stream_;
  Event ready_;
  Event copied_;
};

}  // namespace koios
