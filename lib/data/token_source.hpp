// Token files, cut into windows of seq_len + 1 tokens: sample j is the window that a seeded
// permutation, another one each epoch, has at j mod the number of windows. The tokens left over at
// the end of each file, fewer than a window, are not used.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/data_options.hpp"
#include "data/sample_source.hpp"
#include "data/token_file.hpp"

namespace koios {

class TokenSource final : public SampleSource {
 public:
  /// UserError where a file is none, damaged, or of another tokenizer, or has no whole window.
  TokenSource(const DataSource& data, const DataOptions& options, const Tokenizer& tokenizer);

  void take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start) override;
  void skip() override { ++next_sample_; }
  std::int64_t epoch() const override { return (next_sample_ - 1) / windows_; }
  std::int64_t streams() const override { return 0; }
  SourceState state() const override { return {next_sample_, fingerprint_, {}}; }
  void restore(const SourceState& state) override;

  std::int64_t windows() const { return windows_; }

 private:
  std::int64_t window_of(std::int64_t sample) const;

  std::string path_;
  std::vector<TokenFile> files_;
  std::vector<std::int64_t> first_window_;  // of each file
  std::int64_t windows_ = 0;
  std::uint64_t seed_;
  bool shuffle_;
  std::uint64_t fingerprint_ = 0;
  std::int64_t next_sample_ = 0;
};

}  // namespace koios
