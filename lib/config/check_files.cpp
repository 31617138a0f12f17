#include <algorithm>
#include <filesystem>
#include <string>

#include "config/named_data.hpp"
#include "config/rules.hpp"
#include "config/validate.hpp"

namespace koios {
namespace {

/// What brings the files of the demo, where one of those is missing.
std::string hint(const std::string& path) {
  return path.starts_with("build/assets/") ? "; tools/setup.sh brings it" : "";
}

std::string folder_problem(const std::string& path) {
  std::error_code error;
  const std::filesystem::directory_iterator entries(path, error);
  if (error) return error.message();
  const bool any_file = std::any_of(begin(entries), end(entries), [&](const auto& entry) {
    return entry.is_regular_file(error);
  });
  return any_file ? "" : "the folder holds no file that can be read";
}

std::string dataset_problem(const std::string& path) {
  const NamedData named = find_named_data(path);
  return named.is_folder ? folder_problem(path) : named.problem;
}

}  // namespace

std::vector<DeckError> check_files(const ParsedDeck& parsed) {
  Rules rules(parsed);
  const auto require = [&](const std::string& problem, const char* key, const char* name,
                           const std::string& path) {
    rules.require(problem.empty(), {key}, cat(name, path, ": ", problem, hint(path)));
  };
  const RunConfig& c = parsed.config;
  const std::string tokenizer = c.model.tokenizer_path;
  require(file_problem(tokenizer), "model/tokenizer_path", "[model] tokenizer_path = ", tokenizer);
  for (const MixturePart& part : c.data.mixture) {
    require(dataset_problem(part.path), "data/mixture", "[data] mixture: ", part.path);
  }
  if (c.data.mixture.empty()) {
    require(dataset_problem(c.data.dataset_path), "training/dataset_path",
            "[training] dataset_path = ", c.data.dataset_path);
  }
  if (c.validation.is_on()) {
    require(dataset_problem(c.validation.dataset_path), "validation/dataset_path",
            "[validation] dataset_path = ", c.validation.dataset_path);
  }
  if (const std::string weights = c.checkpoint.initial_load_path; !weights.empty()) {
    require(file_problem(weights), "checkpoint/initial_load_path",
            "[checkpoint] initial_load_path = ", weights);
  }
  return std::move(rules).errors();
}

}  // namespace koios
