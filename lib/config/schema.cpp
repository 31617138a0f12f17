#include "config/schema.hpp"

#include <algorithm>
#include <set>

#include "config/nearest.hpp"

namespace koios {
namespace {

constexpr const char* kSeeHelp = " (koios --help-deck lists them)";

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

/// Gives the entry's value to the option.
void assign(DeckOption& option, const DeckEntry& entry, const Environment& environment,
            DeckErrors& errors) {
  const Problem problem = option.assign(entry.value, environment);
  option.origin = entry.origin;
  option.failed = !problem.empty();
  if (problem.empty()) return;
  const std::string what = cat("[", entry.section, "] ", entry.key);
  errors.add({entry.origin, entry.value.empty() ? cat(what, " ", problem)
                                                : cat(what, " = ", entry.value, ": ", problem)});
}

}  // namespace

DeckErrors DeckSchema::apply(const Deck& file, const Deck& overrides,
                             const Environment& environment) {
  DeckErrors errors;
  const std::vector<std::string> known = sections();
  std::set<std::string> reported;
  const auto check_section = [&](const std::string& name, const Origin& origin) {
    if (std::find(known.begin(), known.end(), name) != known.end()) return true;
    if (reported.insert(name).second) errors.add(origin, [&] { return unknown_section(name); });
    return false;
  };
  for (const DeckSection& section : file.sections) check_section(section.name, section.origin);

  std::set<const DeckOption*> overridden;
  for (const DeckEntry& entry : overrides.entries) {
    if (const DeckOption* option = find(entry.section, entry.key)) overridden.insert(option);
  }
  for (const Deck* deck : {&file, &overrides}) {
    for (const DeckEntry& entry : deck->entries) {
      if (!check_section(entry.section, entry.origin)) continue;
      DeckOption* option = find(entry.section, entry.key);
      if (option == nullptr) {
        errors.add(entry.origin, [&] { return unknown_key(entry.section, entry.key); });
      } else if (deck == &overrides || !overridden.contains(option)) {
        assign(*option, entry, environment, errors);
      }
    }
    for (const DeckEntry& entry : deck->refused) {
      if (DeckOption* option = find(entry.section, entry.key)) option->failed = true;
    }
  }
  return errors;
}

DeckOption* DeckSchema::find(const std::string& section, const std::string& key) const {
  for (const auto& option : options_) {
    if (option->section() == section && option->key() == key) return option.get();
  }
  return nullptr;
}

std::vector<std::string> DeckSchema::sections() const {
  std::vector<std::string> names;
  for (const auto& option : options_) add_once(names, option->section());
  for (const AbsentKey& absent : absent_) add_once(names, absent.section);
  return names;
}

std::string DeckSchema::unknown_section(const std::string& section) const {
  const std::string nearest = nearest_name(section, sections());
  return cat("[", section, "] is not a section",
             nearest.empty() ? kSeeHelp : cat("; did you mean [", nearest, "]?"));
}

// Nearness is looked for in the key's own section first, where a slip of the pen is likeliest.
std::string DeckSchema::unknown_key(const std::string& section, const std::string& key) const {
  const std::string what = cat("[", section, "] ", key);
  for (const AbsentKey& absent : absent_) {
    if (absent.section == section && absent.key == key) return cat(what, " ", absent.reason);
  }
  std::vector<std::string> homes, neighbours, all;
  for (const auto& option : options_) {
    if (option->key() == key) homes.push_back(cat("[", option->section(), "]"));
    if (option->section() == section) neighbours.push_back(option->key());
    all.push_back(option->key());
  }
  if (!homes.empty()) {
    return cat(what, " is not a key; ", key, " is a key of ", join_names(homes));
  }
  if (const std::string near = nearest_name(key, neighbours); !near.empty()) {
    return cat(what, " is not a key; did you mean ", near, "?");
  }
  if (const std::string near = nearest_name(key, all); !near.empty()) {
    for (const auto& option : options_) {
      if (option->key() == near) {
        return cat(what, " is not a key; did you mean ", near, " of [", option->section(), "]?");
      }
    }
  }
  return cat(what, " is not a key", kSeeHelp);
}

}  // namespace koios
