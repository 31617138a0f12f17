// Lists of actions as text, a line each: "forward layers.3 0", with " +" where it accumulates, and
// "gather layers.4 0, behind" where that awaits what is exchanged.
#pragma once

#include <string>
#include <vector>

#include "pipeline/actions.hpp"

namespace koios::testing {

inline std::string action_text(const Action& action, const ShardLayout& layout) {
  const std::string work = describe(action, layout);
  if (action.kind == Action::Kind::update) return work;
  return cat(work, " ", action.micro_batch, action.accumulate ? " +" : "",
             action.awaits_exchange ? ", behind" : "");
}

inline std::string action_text(const std::vector<Action>& actions, const ShardLayout& layout) {
  std::string text;
  for (const Action& action : actions) text += action_text(action, layout) + "\n";
  return text;
}

}  // namespace koios::testing
