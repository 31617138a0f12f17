#include "data/token_source.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/random.hpp"
#include "data/dataset_files.hpp"
#include "data/index_permutation.hpp"

namespace koios {

TokenSource::TokenSource(const DataSource& data, const DataOptions& options,
                         const Tokenizer& tokenizer)
    : path_(data.path), seed_(options.seed), shuffle_(options.shuffle) {
  const DatasetFiles found =
      find_shared_files(data.path, data.format, options.split, nullptr, options.readers());
  for (const std::string& path : found.files) {
    TokenFile file(path);
    file.require_tokenizer(tokenizer);
    first_window_.push_back(windows_);
    windows_ += file.tokens() / (options.seq_len + 1);
    fingerprint_ = mix64(fingerprint_ + header_checksum(file.header()));
    files_.push_back(std::move(file));
  }
  if (windows_ == 0) {
    throw UserError(
        cat(data.path, ": fewer tokens than one sample of seq_len + 1 = ", options.seq_len + 1));
  }
}

std::int64_t TokenSource::window_of(std::int64_t sample) const {
  const std::int64_t index = sample % windows_;
  if (!shuffle_) return index;
  const auto epoch = static_cast<std::uint64_t>(sample / windows_);
  const std::uint64_t key = mix64(seed_ ^ stream_of("data/windows")) + epoch;
  return IndexPermutation(windows_, key)(index);
}

void TokenSource::take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start) {
  const std::int64_t window = window_of(next_sample_);
  const auto after = std::ranges::upper_bound(first_window_, window);
  const auto file = static_cast<std::size_t>(after - first_window_.begin() - 1);
  const std::int64_t first = (window - first_window_[file]) * std::ssize(sample);
  files_[file].read(first, sample);
  files_[file].find_document_starts(first, document_start);
  ++next_sample_;
}

void TokenSource::restore(const SourceState& state) {
  if (state.fingerprint != fingerprint_ || !state.streams.empty()) {
    refuse_changed_data(cat(path_, ": other token files"));
  }
  next_sample_ = state.samples;
}

}  // namespace koios
