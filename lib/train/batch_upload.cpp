#include "train/batch_upload.hpp"

#include <cstring>

#include "core/integers.hpp"

namespace koios {
namespace {

/// Of whole sequences: the row at which each document begins, and the number of rows.
std::vector<std::int32_t> document_begins(const Batch& batch) {
  const std::vector<std::int32_t>& start = batch.document_start;
  std::vector<std::int32_t> begins;
  for (std::int64_t row = 0; row < std::ssize(start); ++row) {
    const auto i = static_cast<std::size_t>(row);
    if (row % batch.seq_len == 0 || start[i] != start[i - 1]) {
      begins.push_back(narrow<std::int32_t>(row));
    }
  }
  begins.push_back(narrow<std::int32_t>(std::ssize(start)));
  return begins;
}

}  // namespace

BatchUpload::BatchUpload(const std::vector<BatchBuffers>& buffers, Backend backend)
    : buffers_(buffers) {
  const BatchBuffers& b = buffers.front();
  const std::int64_t entries = b.token_N.size() + b.label_N.size() + b.document_start_N.size() +
                               b.document_begin_N1.size() + b.sort_position_N.size() +
                               b.sort_begin_S1.size() + b.sort_token_S.size();
  for (int i = 0; i < 2; ++i) {
    staging_.push_back(
        {PinnedBuffer(backend, entries * std::int64_t{sizeof(std::int32_t)}), Event(backend)});
  }
}

Ref<const std::int32_t, 1> BatchUpload::enqueue(Stream& compute, Staging& staging,
                                                std::int64_t& used, Ref<std::int32_t, 1> dst,
                                                const std::vector<std::int32_t>& src) {
  auto* pinned = static_cast<std::int32_t*>(staging.memory.data()) + used;
  const auto count = static_cast<std::int64_t>(src.size());
  std::memcpy(pinned, src.data(), src.size() * sizeof(std::int32_t));
  used += count;
  const auto part = slice(dst, 0, count);
  copy(compute, any(part), any(make_ref(pinned, count)));
  return part;
}

DeviceBatch BatchUpload::upload(const Batch& batch, int slot, Stream& compute) {
  const BatchBuffers& buffers = buffers_[static_cast<std::size_t>(slot)];
  Staging& staging = staging_[next_];
  next_ = (next_ + 1) % staging_.size();
  staging.free.synchronize();
  std::int64_t used = 0;
  const auto send = [&](Ref<std::int32_t, 1> dst, const std::vector<std::int32_t>& src) {
    return enqueue(compute, staging, used, dst, src);
  };
  DeviceBatch result;
  result.token_N = send(buffers.token_N, batch.tokens);
  result.label_N = send(buffers.label_N, batch.labels);
  if (buffers.document_start_N.size() > 0) {
    result.documents.start_BT = send(buffers.document_start_N, batch.document_start);
  }
  if (buffers.document_begin_N1.size() > 0) {
    result.documents.begin_D1 = send(buffers.document_begin_N1, document_begins(batch));
  }
  result.sort.position_N = send(buffers.sort_position_N, batch.index.position);
  result.sort.begin_S1 = send(buffers.sort_begin_S1, batch.index.segment_begin);
  result.sort.token_S = send(buffers.sort_token_S, batch.index.segment_token);
  staging.free.record(compute);
  return result;
}

}  // namespace koios
