// A small file written whole.
#pragma once

#include <filesystem>
#include <string_view>

namespace koios {

/// At every instant the file holds its old text or `text`. Throws UserError with path and reason
/// where it cannot be written.
void replace_file(const std::filesystem::path& path, std::string_view text);

}  // namespace koios
