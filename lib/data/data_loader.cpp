#include "data/data_loader.hpp"

#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "data/embedding_index.hpp"

namespace koios {

DataLoader::DataLoader(const DataOptions& options, const Tokenizer& tokenizer, int dp_rank,
                       int dp_size, const SequenceState& start, const SequencePart& part)
    : batch_size_(options.batch_size),
      seq_len_(options.seq_len),
      part_(part),
      feed_(options, tokenizer, dp_rank, dp_size, start),
      state_(feed_.start()),
      prefetcher_([this](const std::stop_token& stop) { return make_batch(stop); },
                  narrow<std::size_t>(options.prefetch)) {}

std::optional<Batch> DataLoader::make_batch(const std::stop_token& stop) {
  std::optional<Samples> samples = feed_.next(stop);
  if (!samples) return std::nullopt;
  Batch batch;
  batch.first_sample = samples->first_sample;
  batch.epoch = samples->epoch;
  batch.sequences = batch_size_;
  batch.seq_len = seq_len_;
  batch.part = part_;
  batch.next_step = std::move(samples->next_step);
  const std::int64_t chunk_len = part_.chunk_len(seq_len_);
  for (std::int64_t i = 0; i < batch_size_; ++i) {
    for (int chunk = 0; chunk < part_.chunks(); ++chunk) {
      const std::int64_t begin = i * (seq_len_ + 1) + part_.begin(chunk, seq_len_);
      const auto append = [&](std::vector<std::int32_t>& to, const std::vector<std::int32_t>& from,
                              std::int64_t first) {
        to.insert(to.end(), from.begin() + first, from.begin() + first + chunk_len);
      };
      append(batch.tokens, samples->tokens, begin);
      append(batch.labels, samples->tokens, begin + 1);
      append(batch.document_start, samples->document_start, begin);
    }
  }
  batch.index = make_embedding_index(batch.tokens);
  return batch;
}

Batch DataLoader::next() {
  Batch batch = prefetcher_.next();
  epoch_ = batch.epoch;
  inside_step_ = !batch.next_step.has_value();
  if (batch.next_step) state_ = *batch.next_step;
  return batch;
}

const SequenceState& DataLoader::state() const {
  KOIOS_REQUIRE(!inside_step_, "the position in the data is known between steps only");
  return state_;
}

}  // namespace koios
