// Rate of one core of Koios' tokenizer, for tools/bench_tokenizer.py, which runs it beside others.
//   bench_tokenizer MODEL DOCUMENTS IDS
// DOCUMENTS are parted by zero bytes. Prints bytes, tokens and seconds, and writes all ids, as
// 4-byte integers, to IDS.
#include <algorithm>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "core/stopwatch.hpp"
#include "data/tokenizer.hpp"

namespace {

using namespace koios;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UserError(cat(path, ": cannot be read"));
  return {std::istreambuf_iterator<char>(file), {}};
}

void run(const std::string& model, const std::string& documents, const std::string& ids_path) {
  const auto tokenizer = load_sentencepiece(model);
  const std::string text = read_file(documents);
  std::vector<std::vector<std::int32_t>> ids;
  std::size_t tokens = 0;
  const Stopwatch clock;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\0', begin), text.size());
    ids.push_back(tokenizer->encode(std::string_view(text).substr(begin, end - begin)));
    tokens += ids.back().size();
    begin = end + 1;
  }
  const double seconds = clock.seconds();
  std::cout << text.size() << " " << tokens << " " << seconds << "\n";
  std::ofstream out(ids_path, std::ios::binary);
  for (const auto& document : ids) {
    out.write(reinterpret_cast<const char*>(document.data()),
              static_cast<std::streamsize>(document.size() * sizeof(std::int32_t)));
  }
  if (!out.flush()) throw UserError(cat(ids_path, ": cannot be written"));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw UserError("usage: bench_tokenizer MODEL DOCUMENTS IDS");
    run(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
