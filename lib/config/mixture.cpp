#include "config/mixture.hpp"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "core/error.hpp"

namespace koios {
namespace {

std::string_view trim(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

/// What is wrong with one part; empty where nothing is.
std::string parse_part(std::string_view text, MixturePart& part) {
  const auto first = text.find(':');
  const auto last = text.rfind(':');
  if (first == last) return cat("'", text, "' is not DATASET:PATH:WEIGHT");
  const auto dataset = from_string<DatasetKind>(text.substr(0, first));
  if (!dataset) {
    std::string names;
    for (const auto& [kind, name] : names_of(DatasetKind{})) {
      names += cat(names.empty() ? "" : ", ", name);
    }
    return cat("'", text.substr(0, first), "' is no dataset; there are: ", names);
  }
  part.dataset = *dataset;
  part.path = text.substr(first + 1, last - first - 1);
  if (part.path.empty()) return cat("'", text, "' has no path");
  const std::string_view weight = text.substr(last + 1);
  const auto [end, error] =
      std::from_chars(weight.data(), weight.data() + weight.size(), part.weight);
  const bool is_number = error == std::errc{} && end == weight.data() + weight.size();
  if (!is_number || !(part.weight > 0 && part.weight <= 1e6)) {
    return cat("the weight '", weight, "' of ", part.path, " is no number above 0 and up to 1e6");
  }
  return "";
}

}  // namespace

std::vector<MixturePart> parse_mixture(std::string_view text, std::string& problem) {
  problem.clear();
  std::vector<MixturePart> parts;
  while (!trim(text).empty() && problem.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    problem = parse_part(trim(text.substr(0, comma)), parts.emplace_back());
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

}  // namespace koios
