// One logical stream of documents without end: its share of the data in a seeded order, again and
// again. Of S streams, stream k takes the documents whose number in file order is k modulo S; they
// come in windows, each shuffled by a permutation that is a function of (seed, stream, epoch,
// window), so a position is a few integers and every document comes once an epoch. Where a stream's
// share holds nothing that can be used it reads the next stream's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "data/record_reader.hpp"

namespace koios {

struct StreamOptions {
  std::int64_t stream = 0;
  std::int64_t streams = 1;
  std::uint64_t seed = 0;
  bool shuffle = true;
  /// Documents in a window; it also ends once it holds 16 MiB or 131,072 documents, which bounds
  /// the memory.
  std::int64_t window = 1024;
};

struct DocumentPosition {
  std::int64_t epoch = 0;
  std::int64_t window = 0;
  std::int64_t index = 0;        // in the window's order
  RecordMark window_start;       // follows from epoch and window, but would take a pass to find
  std::int64_t moved = 0;        // shares passed over, in which nothing could be used
  std::int64_t window_text = 0;  // a checksum of 56 bits of the window's documents; 0: not known

  bool operator==(const DocumentPosition&) const = default;
};

class DocumentStream {
 public:
  DocumentStream(RecordReader reader, const StreamOptions& options);

  /// The document at position(); UserError where the data has none for this stream.
  const Document& current();
  /// Where nothing of the share can be used: to the front of the next one. UserError, which says
  /// `why`, where all shares were tried.
  void move_on(const std::string& why);
  /// To the next document, which after the last one of an epoch is the next epoch's first.
  void advance();

  const DocumentPosition& position() const { return position_; }
  BadData* bad_data() const { return reader_.bad_data(); }
  /// To a position of a stream with the same options over the same data: UserError where it can be
  /// none, here as far as that can be told without reading; the documents are compared when they
  /// are read.
  void seek(const DocumentPosition& position);

 private:
  /// The stream whose share is read.
  std::int64_t share() const { return (options_.stream + position_.moved) % options_.streams; }
  std::int64_t most_documents() const;
  void load_window();
  void load_saved_window();

  RecordReader reader_;
  StreamOptions options_;
  DocumentPosition position_;
  bool is_loaded_ = false;
  std::vector<Document> window_;
  std::vector<std::size_t> order_;
};

}  // namespace koios
