// ~, $VAR and ${VAR} in the paths of a deck, as a shell has them.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "config/values.hpp"

namespace koios {

/// The value of a variable, or none where it is not set. "~" asks for the user's home folder and
/// "~name" for another user's.
using Environment = std::function<std::optional<std::string>(const std::string&)>;

/// This process's own.
std::optional<std::string> process_environment(const std::string& name);

/// A ~ at the start and variables anywhere are replaced; "\$" is a dollar sign, and "./~" a folder
/// of such a name. A variable that is not set is a problem, as is a $ that begins no name.
Problem expand_value(std::filesystem::path& value, const Environment& environment);

/// Nothing to do in values that are no paths. (For several paths in a value: mixture.hpp.)
template <class T>
Problem expand_value(T&, const Environment&) {
  return {};
}

}  // namespace koios
