// Versions of koios and of what it stands on, for --version and provenance.json.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace koios {

std::vector<std::pair<std::string, std::string>> library_versions();

/// The text of --version.
std::string version_text();

}  // namespace koios
