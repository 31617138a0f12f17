// What to train on and how it is cut into batches. All of it but batch_size, gradient_accumulation
// and prefetch defines the one logical sequence of samples.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/bad_data.hpp"
#include "data/dataset_files.hpp"
#include "data/record_format.hpp"
#include "data/sample_ranks.hpp"
#include "data/tokenizer.hpp"

namespace koios {

/// One dataset of several.
struct DataSource {
  DataFormat format = DataFormat::text;
  std::string path;   // a file, a folder or a glob
  double weight = 1;  // its share of the samples, relative to the others
};

struct DataOptions {
  DataFormat format = DataFormat::text;
  std::string path;                        // a file, a folder or a glob
  DataSplit split = DataSplit::training;   // of a folder that holds both
  std::vector<DataSource> mixture;         // if there are any, in place of format and path
  DocumentMarks marks;                     // around each document that is tokenized here
  std::int64_t seq_len = 2048;             // tokens
  std::int64_t batch_size = 8;             // sequences per data-parallel rank and micro-batch
  std::int64_t gradient_accumulation = 1;  // micro-batches per step
  std::uint64_t seed = 0;
  bool shuffle = true;                 // false: the published order, as one stream
  std::int64_t shuffle_window = 1024;  // documents, within one stream
  std::int64_t streams = 8;            // taken round robin; no more than there are documents
  std::int64_t vocab_size = 0;         // of the model; 0: whatever the tokenizer has
  std::int64_t prefetch = 4;           // micro-batches made ahead
  const SampleRanks* ranks = nullptr;  // that read the same data; null: this process alone
  BadData* bad_data = nullptr;         // told of what cannot be used; null: it is thrown

  const RankGroup* readers() const { return ranks == nullptr ? nullptr : &ranks->readers(); }
};

}  // namespace koios
