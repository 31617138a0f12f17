// What koios-tokenize does: the documents of a dataset become one token file, in their published
// order, whatever the number of ranks. The work lies in OUTPUT.parts until it is whole, so that a
// job that was stopped goes on where it was; OUTPUT itself is complete or absent.
#pragma once

#include <string>

#include "data/bad_data.hpp"
#include "data/record_format.hpp"
#include "data/token_file.hpp"
#include "runtime/mpi_env.hpp"
#include "runtime/signals.hpp"

namespace koios {

struct TokenizeOptions {
  DataFormat format = DataFormat::text;
  std::string path;  // a file, a folder or a glob
  DocumentMarks marks;
  std::string output;
  BadData* bad_data = nullptr;  // told of what cannot be used; null: it is thrown
  Signals* signals = nullptr;   // told to hold stops before the file is whole; may be null
};

/// Collective over all ranks; returns the header of the file. Rank 0 logs the progress.
TokenFileHeader tokenize_corpus(const TokenizeOptions& options, const Tokenizer& tokenizer,
                                const MpiEnv& mpi);

}  // namespace koios
