#include "data/sample_sequence.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/error.hpp"
#include "data/stream_source.hpp"
#include "data/token_source.hpp"

namespace koios {
namespace {

std::unique_ptr<SampleSource> make_source(const DataSource& data, const DataOptions& options,
                                          const Tokenizer& tokenizer) {
  if (data.format == DataFormat::tokens) {
    return std::make_unique<TokenSource>(data, options, tokenizer);
  }
  return std::make_unique<StreamSource>(data, options, tokenizer);
}

/// Whole numbers, so that every machine makes the same choices.
std::vector<std::int64_t> shares_of(const std::vector<DataSource>& sources) {
  double sum = 0;
  for (const DataSource& source : sources) sum += source.weight;
  std::vector<std::int64_t> shares;
  for (const DataSource& source : sources) {
    shares.push_back(std::max<std::int64_t>(1, std::llround(source.weight / sum * 1e6)));
  }
  return shares;
}

}  // namespace

SampleSequence::SampleSequence(const DataOptions& options, const Tokenizer& tokenizer)
    : seq_len_(options.seq_len), tokenizer_hash_(tokenizer.hash()) {
  KOIOS_REQUIRE(options.seq_len > 0, "seq_len ", options.seq_len);
  KOIOS_REQUIRE(options.marks.bos || options.marks.eos, "nothing parts the documents");
  if (options.vocab_size > 0 && tokenizer.vocab_size() > options.vocab_size) {
    throw UserError(cat("the tokenizer has ", tokenizer.vocab_size(),
                        " pieces, the model's vocabulary only ", options.vocab_size,
                        ": raise model/vocab_size, or set it to 0 to follow the tokenizer"));
  }
  const std::vector<DataSource> sources =
      options.mixture.empty() ? std::vector<DataSource>{{options.format, options.path, 1}}
                              : options.mixture;
  for (const DataSource& data : sources) {
    sources_.push_back(make_source(data, options, tokenizer));
  }
  shares_ = shares_of(sources);
  credit_.resize(sources_.size());
  beginning_ = state();
}

std::size_t SampleSequence::next_source() {
  ++next_sample_;
  for (std::size_t i = 0; i < credit_.size(); ++i) credit_[i] += shares_[i];
  const auto next = std::ranges::max_element(credit_);  // the first of equals
  *next -= std::accumulate(shares_.begin(), shares_.end(), std::int64_t{0});
  return static_cast<std::size_t>(next - credit_.begin());
}

void SampleSequence::take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start) {
  KOIOS_REQUIRE(std::ssize(sample) == seq_len_ + 1, sample.size(), " tokens of ", seq_len_ + 1);
  sources_[next_source()]->take(sample, document_start);
}

void SampleSequence::skip() { sources_[next_source()]->skip(); }

std::int64_t SampleSequence::epoch() const {
  std::int64_t latest = 0;
  for (const auto& source : sources_) latest = std::max(latest, source->epoch());
  return latest;
}

SequenceState SampleSequence::state() const {
  SequenceState state{next_sample_, seq_len_, tokenizer_hash_, {}, shares_};
  for (const auto& source : sources_) state.sources.push_back(source->state());
  return state;
}

void SampleSequence::restore(const SequenceState& saved) {
  const SequenceState& state = saved == SequenceState{} ? beginning_ : saved;
  if (state.tokenizer_hash != tokenizer_hash_) {
    throw UserError(
        fmt::format("the saved position in the data was reached with another tokenizer (hash {:x}) "
                    "than model/tokenizer_path (hash {:x})",
                    state.tokenizer_hash, tokenizer_hash_));
  }
  if (state.seq_len != seq_len_ || state.shares != shares_ ||
      state.sources.size() != sources_.size()) {
    throw UserError(cat("the saved position in the data is of ", state.sources.size(),
                        " datasets at seq_len ", state.seq_len, ", this run has ", sources_.size(),
                        " at ", seq_len_, ": training/seq_len, data/mixture and its weights must ",
                        "be those of the run that saved it"));
  }
  next_sample_ = state.next_sample;
  const std::int64_t whole = std::accumulate(shares_.begin(), shares_.end(), std::int64_t{0});
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    sources_[i]->restore(state.sources[i]);
    credit_[i] = shares_[i] * next_sample_ - whole * state.sources[i].samples;
  }
}

}  // namespace koios
