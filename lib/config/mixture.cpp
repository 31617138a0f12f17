#include "config/mixture.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace koios {
namespace {

std::string_view trim(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

/// The first comma that is none of a path.
std::size_t find_comma(std::string_view text) {
  std::size_t at = text.find(',');
  while (at != std::string_view::npos && at > 0 && text[at - 1] == '\\')
    at = text.find(',', at + 1);
  return std::min(at, text.size());
}

/// `text` with every `from` replaced.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const bool is_found = text.substr(at).starts_with(from);
    result += is_found ? to : text.substr(at, 1);
    at += is_found ? from.size() : 1;
  }
  return result;
}

Problem parse_part(std::string_view text, MixturePart& part) {
  const auto first = text.find(':');
  const auto last = text.rfind(':');
  if (first == last) return cat("'", text, "' is not DATASET:PATH:WEIGHT");
  const std::string_view dataset = trim(text.substr(0, first));
  if (!parse_value(dataset, part.dataset).empty()) {
    return cat("'", dataset, "' is no dataset; there are: ", join_names(all_names<DataFormat>()));
  }
  part.path = replace_all(trim(text.substr(first + 1, last - first - 1)), "\\,", ",");
  if (part.path.empty()) return cat("'", text, "' has no path");
  const std::string_view weight = trim(text.substr(last + 1));
  const Problem problem = parse_value(weight, part.weight);
  if (!problem.empty() || !(part.weight > 0 && part.weight <= 1e6)) {
    return cat("the weight '", weight, "' of ", part.path.string(),
               " is no number above 0 and up to 1e6");
  }
  return {};
}

}  // namespace

Problem parse_value(std::string_view text, Mixture& mixture) {
  Mixture parts;
  const bool has_commas = find_comma(text) < text.size();
  while (!trim(text).empty()) {
    const std::size_t comma = find_comma(text);
    const Problem problem = parse_part(trim(text.substr(0, comma)), parts.emplace_back());
    if (!problem.empty()) {
      return has_commas ? problem + "; a comma in a path is written \\," : problem;
    }
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  mixture = std::move(parts);
  return {};
}

std::string show_value(const Mixture& mixture) {
  std::string text;
  for (const MixturePart& part : mixture) {
    text += cat(text.empty() ? "" : ", ", to_string(part.dataset), ":",
                replace_all(show_value(part.path), ",", "\\,"), ":", show_value(part.weight));
  }
  return text;
}

Problem expand_value(Mixture& mixture, const Environment& environment) {
  for (MixturePart& part : mixture) {
    if (Problem problem = expand_value(part.path, environment); !problem.empty()) return problem;
  }
  return {};
}

}  // namespace koios
