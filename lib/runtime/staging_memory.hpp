// A large host buffer for copies from the GPU that is made in two stages, so that a run does not
// wait for it: taking the pages is slow and may be done by any thread; making them known to CUDA is
// quick, but may wait for the device, and a device may be waiting for another rank: it must be done
// by all ranks between the same two steps.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/backend.hpp"

namespace koios {

class StagingMemory {
 public:
  /// Takes the memory and touches every page.
  StagingMemory(Backend backend, std::int64_t bytes);
  StagingMemory(const StagingMemory&) = delete;
  StagingMemory& operator=(const StagingMemory&) = delete;
  ~StagingMemory();

  /// Makes it pinned, once; nothing on the host.
  void pin();
  std::byte* data() const { return data_; }

 private:
  Backend backend_;
  std::int64_t bytes_;
  std::byte* data_;
  bool is_pinned_ = false;
};

}  // namespace koios
