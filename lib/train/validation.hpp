// Loss on held-out data, now and then during training: forward passes of the weights as they are,
// over the same samples each time, in the memory that training has anyway. The samples are the
// first validation/steps batches of every data-parallel rank in published order, so two meshes with
// equally many sequences altogether measure the same.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "comm/mesh.hpp"
#include "config/run_config.hpp"
#include "data/data_loader.hpp"
#include "runtime/copy.hpp"
#include "train/step.hpp"

namespace koios {

/// What one look at the held-out data found.
struct ValidationResult {
  double loss = 0;  // mean over the label tokens of all ranks
  std::int64_t sequences = 0;
  double seconds = 0;

  double perplexity() const { return std::exp(loss); }
};

template <class T>
class Validation {
 public:
  /// Begins to read the samples at once; they stay in host memory. bad: told of data that cannot be
  /// used, and must outlive it.
  Validation(const RunConfig& config, const TrainingShape& shape, const Tokenizer& tokenizer,
             const Mesh& mesh, const SampleRanks& ranks, BadData& bad);

  /// Collective. Waits for the result. go_on: asked after each batch, the same on every rank; no is
  /// the end, without a result.
  std::optional<ValidationResult> run(TrainStep<T>& step, Stream& compute,
                                      const std::function<bool()>& go_on);

 private:
  const Batch& batch(std::size_t number);

  const RunConfig& config_;
  const Mesh& mesh_;
  std::int64_t tokens_;                 // of one batch of this rank
  std::unique_ptr<DataLoader> loader_;  // until all samples have been read
  std::vector<Batch> batches_;
  PinnedBuffer loss_sums_;
  Event last_;
};

}  // namespace koios
