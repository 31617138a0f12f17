// One dataset as a sequence of samples without end, the same on every mesh: pass after pass over
// its data. It is read in order, but what is skipped costs nothing until it is needed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/token_stream.hpp"

namespace koios {

/// A place in a source. Its streams may lag behind `samples`: each says how far it has come.
struct SourceState {
  std::int64_t samples = 0;          // taken or skipped
  std::uint64_t fingerprint = 0;     // of the data; another one is other data
  std::vector<StreamState> streams;  // none for token files

  bool operator==(const SourceState&) const = default;
};

class SampleSource {
 public:
  virtual ~SampleSource() = default;

  /// As SampleSequence::take().
  virtual void take(std::span<std::int32_t> sample, std::span<std::int32_t> document_start) = 0;
  virtual void skip() = 0;

  /// Passes over the data completed, as far as it was read here: 0 until the first token repeats.
  virtual std::int64_t epoch() const = 0;
  /// Logical streams in use; 0 for token files.
  virtual std::int64_t streams() const = 0;

  virtual SourceState state() const = 0;
  /// To a state of a source with the same options over the same data; UserError on other data.
  virtual void restore(const SourceState& state) = 0;
};

}  // namespace koios
