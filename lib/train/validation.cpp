#include "train/validation.hpp"

#include <array>

#include "comm/host_reduce.hpp"
#include "core/log.hpp"
#include "core/stopwatch.hpp"
#include "train/deck_options.hpp"

namespace koios {

template <class T>
Validation<T>::Validation(const RunConfig& config, const TrainingShape& shape,
                          const Tokenizer& tokenizer, const Mesh& mesh, const SampleRanks& ranks,
                          BadData& bad)
    : config_(config),
      mesh_(mesh),
      tokens_(shape.micro_batch.tokens()),
      loader_(std::make_unique<DataLoader>(
          validation_data(config, shape.model.vocab_size, bad, &ranks), tokenizer,
          shape.mesh.dp_coordinate(mesh.rank()), shape.mesh.dp(), SequenceState{},
          shape.sequence_part(mesh.rank()))),
      loss_sums_(shape.backend, config.validation.steps * std::int64_t{sizeof(float)}),
      last_(shape.backend) {}

template <class T>
const Batch& Validation<T>::batch(std::size_t number) {
  if (number == batches_.size()) batches_.push_back(loader_->next());
  return batches_[number];
}

template <class T>
std::optional<ValidationResult> Validation<T>::run(TrainStep<T>& step, Stream& compute,
                                                   const std::function<bool()>& go_on) {
  const Stopwatch watch;
  const std::int64_t steps = config_.validation.steps;
  auto* sums = static_cast<float*>(loss_sums_.data());
  bool goes_on = true;
  for (std::int64_t i = 0; i < steps && goes_on; ++i) {
    const auto sum = step.loss_sum(batch(static_cast<std::size_t>(i)));
    copy(compute, any(make_ref(sums + i, 1)), any(sum));
    goes_on = go_on();
  }
  last_.record(compute);
  last_.synchronize();
  if (!goes_on) return std::nullopt;
  const bool starts_again = loader_ && loader_->epoch() > 0;
  loader_.reset();

  double mean = 0;
  for (std::int64_t i = 0; i < steps; ++i) mean += static_cast<double>(sums[i]);
  // Only the ranks of the stage with the head have a sum.
  mean /= static_cast<double>(steps * tokens_) * mesh_.size() / mesh_.shape().size(Axis::pp);
  std::array<double, 2> over_ranks = {mean, starts_again ? 1.0 : 0.0};
  all_reduce_sum(mesh_.host_world(), over_ranks);
  if (over_ranks[1] > 0 && mesh_.rank() == 0) {
    log::warning("validation: ", steps, " batches are more than ",
                 config_.validation.dataset_path.string(), " holds; some of it counts twice");
  }
  const std::int64_t sequences = steps * config_.training.batch_size * mesh_.shape().dp();
  return ValidationResult{over_ranks[0], sequences, watch.seconds()};
}

template class Validation<float>;
template class Validation<bf16>;

}  // namespace koios
