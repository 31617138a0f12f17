#include "data/sample_feed.hpp"

#include <cstring>
#include <span>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "data/saved_position.hpp"

namespace koios {
namespace {

using Message = BackgroundBroadcast::Message;

bool is_reader(const DataOptions& options) {
  return options.ranks == nullptr || options.ranks->sharers().rank() == 0;
}

std::optional<SampleSequence> start_sequence(const DataOptions& options, const Tokenizer& tokenizer,
                                             const SequenceState& start) {
  if (!is_reader(options)) return std::nullopt;
  SampleSequence sequence(options, tokenizer);
  sequence.restore(start);
  return sequence;
}

template <class Value>
void append(Message& message, const std::vector<Value>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  message.insert(message.end(), bytes.begin(), bytes.end());
}

template <class Value>
std::vector<Value> take(std::span<const std::byte>& message, std::int64_t count) {
  std::vector<Value> values(narrow<std::size_t>(count));
  const std::size_t bytes = values.size() * sizeof(Value);
  KOIOS_REQUIRE(bytes <= message.size(), "a message of samples ends early");
  std::memcpy(values.data(), message.data(), bytes);
  message = message.subspan(bytes);
  return values;
}

Message pack(const Samples& samples) {
  const auto state =
      samples.next_step ? to_integers(*samples.next_step) : std::vector<std::int64_t>{};
  Message message;
  append(message, std::vector<std::int64_t>{samples.first_sample, samples.epoch, std::ssize(state),
                                            std::ssize(samples.tokens)});
  append(message, state);
  append(message, samples.tokens);
  append(message, samples.document_start);
  return message;
}

Samples unpack(std::span<const std::byte> message) {
  const auto head = take<std::int64_t>(message, 4);
  Samples samples;
  samples.first_sample = head[0];
  samples.epoch = head[1];
  const auto state = take<std::int64_t>(message, head[2]);
  if (!state.empty()) samples.next_step = from_integers(state);
  samples.tokens = take<std::int32_t>(message, head[3]);
  samples.document_start = take<std::int32_t>(message, head[3]);
  return samples;
}

/// The reader's state on every rank of the group.
SequenceState share(const SequenceState& state, const RankGroup& sharers) {
  const auto integers = to_integers(state);
  const std::string text = sharers.broadcast(
      {reinterpret_cast<const char*>(integers.data()), integers.size() * sizeof(std::int64_t)});
  std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  return from_integers(
      take<std::int64_t>(bytes, std::ssize(text) / narrow<std::ptrdiff_t>(sizeof(std::int64_t))));
}

}  // namespace

SampleFeed::SampleFeed(const DataOptions& options, const Tokenizer& tokenizer, int dp_rank,
                       int dp_size, const SequenceState& start)
    : batch_size_(options.batch_size),
      seq_len_(options.seq_len),
      micro_batches_(options.gradient_accumulation),
      samples_before_(dp_rank * batch_size_ * micro_batches_),
      samples_after_((dp_size - 1 - dp_rank) * batch_size_ * micro_batches_),
      sequence_(start_sequence(options, tokenizer, start)) {
  KOIOS_REQUIRE(dp_rank >= 0 && dp_rank < dp_size, dp_rank, " of ", dp_size);
  KOIOS_REQUIRE(batch_size_ > 0 && micro_batches_ > 0, batch_size_, " x ", micro_batches_);
  if (sequence_) start_ = sequence_->state();
  if (options.ranks == nullptr || options.ranks->sharers().size() == 1) return;
  start_ = share(start_, options.ranks->sharers());
  to_sharers_.emplace(options.ranks->sharers());
}

bool SampleFeed::skip(std::int64_t samples, const std::stop_token& stop) {
  for (std::int64_t i = 0; i < samples && !stop.stop_requested(); ++i) sequence_->skip();
  return !stop.stop_requested();
}

std::optional<Samples> SampleFeed::read(const std::stop_token& stop) {
  if (micro_batch_ == 0 && !skip(samples_before_, stop)) return std::nullopt;
  Samples samples;
  samples.first_sample = sequence_->next_sample();
  const auto length = narrow<std::size_t>(seq_len_ + 1);
  samples.tokens.resize(narrow<std::size_t>(batch_size_) * length);
  samples.document_start.resize(samples.tokens.size());
  for (std::size_t at = 0; at < samples.tokens.size(); at += length) {
    if (stop.stop_requested()) return std::nullopt;
    sequence_->take(std::span(samples.tokens).subspan(at, length),
                    std::span(samples.document_start).subspan(at, length));
  }
  samples.epoch = sequence_->epoch();
  micro_batch_ = (micro_batch_ + 1) % micro_batches_;
  if (micro_batch_ == 0) {
    if (!skip(samples_after_, stop)) return std::nullopt;
    samples.next_step = sequence_->state();
  }
  return samples;
}

std::optional<Samples> SampleFeed::next(const std::stop_token& stop) {
  std::optional<Samples> samples;
  if (sequence_) samples = read(stop);
  if (!to_sharers_ || (sequence_ && !samples)) return samples;
  const auto message = to_sharers_->next(samples ? pack(*samples) : Message{}, stop);
  if (!message) return std::nullopt;
  return samples ? samples : unpack(*message);
}

}  // namespace koios
