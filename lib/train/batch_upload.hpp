// Micro-batches on their way from the loader into the backend's memory, without waiting: two
// pinned staging buffers, each free again once its copy has run.
#pragma once

#include "data/batch.hpp"
#include "model/stage.hpp"
#include "runtime/copy.hpp"
#include "train/training_memory.hpp"

namespace koios {

class BatchUpload {
 public:
  /// buffers: where the micro-batch of each slot goes.
  BatchUpload(const std::vector<BatchBuffers>& buffers, Backend backend);

  /// Enqueues the copies on `compute`, so they follow what still reads the batch before.
  DeviceBatch upload(const Batch& batch, int slot, Stream& compute);

 private:
  struct Staging {
    PinnedBuffer memory;
    Event free;
  };
  Ref<const std::int32_t, 1> enqueue(Stream& compute, Staging& staging, std::int64_t& used,
                                     Ref<std::int32_t, 1> dst,
                                     const std::vector<std::int32_t>& src);

  std::vector<BatchBuffers> buffers_;
  std::vector<Staging> staging_;
  std::size_t next_ = 0;
};

}  // namespace koios
