#include <glob.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "config/mixture.hpp"
#include "config/rules.hpp"
#include "config/validate.hpp"

namespace koios {
namespace {

/// Why the file cannot be read; empty where it can.
std::string file_problem(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return "is a folder, not a file";
  errno = 0;
  const std::ifstream file(path);
  return file ? "" : std::strerror(errno);
}

std::string dataset_problem(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    const std::filesystem::directory_iterator entries(path, ignored);
    const bool any_file = std::any_of(begin(entries), end(entries), [&](const auto& entry) {
      return entry.is_regular_file(ignored);
    });
    return any_file ? "" : "the folder holds no file that can be read";
  }
  if (path.find_first_of("*?[") == std::string::npos) return file_problem(path);
  glob_t found{};
  const int result = glob(path.c_str(), 0, nullptr, &found);
  globfree(&found);
  return result == 0 ? "" : "no file fits the pattern";
}

/// What brings the files of the demo, where one of those is missing.
std::string hint(const std::string& path) {
  return path.starts_with("build/assets/") ? "; tools/setup.sh brings it" : "";
}

}  // namespace

std::vector<DeckError> check_files(const ParsedDeck& parsed) {
  Rules rules(parsed);
  const std::string tokenizer = parsed.config.model.tokenizer_path.string();
  const std::string tokenizer_missing = file_problem(tokenizer);
  rules.require(
      tokenizer_missing.empty(), {"model/tokenizer_path"},
      cat("[model] tokenizer_path = ", tokenizer, ": ", tokenizer_missing, hint(tokenizer)));
  std::string wrong_mixture;
  const auto mixture = parse_mixture(parsed.config.data.mixture, wrong_mixture);
  for (const MixturePart& part : mixture) {
    const std::string missing = wrong_mixture.empty() ? dataset_problem(part.path) : "";
    rules.require(missing.empty(), {"data/mixture"},
                  cat("[data] mixture: ", part.path, ": ", missing));
  }
  const std::string dataset = parsed.config.data.dataset_path;
  const std::string dataset_missing = mixture.empty() ? dataset_problem(dataset) : "";
  rules.require(dataset_missing.empty(), {"training/dataset_path"},
                cat("[training] dataset_path = ", dataset, ": ", dataset_missing, hint(dataset)));
  if (const ValidationConfig& v = parsed.config.validation; v.is_on()) {
    const std::string missing = dataset_problem(v.dataset_path);
    rules.require(
        missing.empty(), {"validation/dataset_path"},
        cat("[validation] dataset_path = ", v.dataset_path, ": ", missing, hint(v.dataset_path)));
  }
  const std::string weights = parsed.config.checkpoint.initial_load_path.string();
  const std::string weights_missing = weights.empty() ? "" : file_problem(weights);
  rules.require(weights_missing.empty(), {"checkpoint/initial_load_path"},
                cat("[checkpoint] initial_load_path = ", weights, ": ", weights_missing));
  return std::move(rules).errors();
}

}  // namespace koios
