// A small token file, made the way koios-tokenize makes it.
#pragma once

#include <string>
#include <vector>

#include "data/token_parts.hpp"

namespace koios::testing {

inline std::string write_token_file(const std::string& path, const Tokenizer& tokenizer,
                                    const std::vector<std::vector<std::int32_t>>& documents,
                                    std::uint32_t token_bytes = 2) {
  std::vector<std::string> paths;
  std::vector<TokenPart> parts;
  for (std::size_t half = 0; half < 2; ++half) {
    paths.push_back(path + (half == 0 ? ".part0" : ".part1"));
    TokenPartWriter writer(paths.back(), 7, token_bytes);
    const std::size_t middle = documents.size() / 2;
    for (std::size_t i = half * middle; i < (half == 0 ? middle : documents.size()); ++i) {
      writer.add(documents[i]);
    }
    parts.push_back(writer.finish());
  }
  TokenFileHeader header;
  header.token_bytes = token_bytes;
  header.tokenizer_hash = tokenizer.hash();
  header.vocab_size = tokenizer.vocab_size();
  TokenFileAssembly assembly(path, header, paths, parts);
  assembly.create();
  for (const std::size_t part : {1, 0}) assembly.copy_part(part);
  for (const int worker : {2, 0, 1}) assembly.write_checksums(worker, 3);
  assembly.finish();
  return path;
}

}  // namespace koios::testing
