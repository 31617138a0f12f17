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

}  // namespace

std::vector<DeckError> check_files(const ParsedDeck& parsed, const DataProblem& data_problem) {
  Rules rules(parsed);
  const auto require = [&](const std::string& problem, const char* key, const char* name,
                           const std::string& path) {
    rules.require(problem.empty(), {key}, cat(name, path, ": ", problem, hint(path)));
  };
  const RunConfig& c = parsed.config;
  const std::string tokenizer = c.model.tokenizer_path;
  require(file_problem(tokenizer), "model/tokenizer_path", "[model] tokenizer_path = ", tokenizer);
  for (const MixturePart& part : c.data.mixture) {
    require(data_problem(part.path), "data/mixture", "[data] mixture: ", part.path);
  }
  if (c.data.mixture.empty()) {
    require(data_problem(c.data.dataset_path), "training/dataset_path",
            "[training] dataset_path = ", c.data.dataset_path);
  }
  if (c.validation.is_on()) {
    require(data_problem(c.validation.dataset_path), "validation/dataset_path",
            "[validation] dataset_path = ", c.validation.dataset_path);
  }
  if (const std::string choices = c.job.gemm_choices; !choices.empty()) {
    require(file_problem(choices), "job/gemm_choices", "[job] gemm_choices = ", choices);
  }
  if (const std::string weights = c.checkpoint.initial_load_path; !weights.empty()) {
    require(file_problem(weights), "checkpoint/initial_load_path",
            "[checkpoint] initial_load_path = ", weights);
  }
  return std::move(rules).errors();
}

}  // namespace koios
