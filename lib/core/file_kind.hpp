// What a file is by its first bytes, for the messages of those who expected something else in it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace koios {

/// Bytes of a file's front that are enough for all of these.
inline constexpr std::size_t kFileHeadBytes = 512;

/// Whether it is a pointer that Git LFS left in place of a file it did not fetch.
bool is_lfs_pointer(std::string_view head);

/// "a zip archive", "a Git LFS pointer, ...": what no text and no tokenizer begins as; empty where
/// the bytes are nothing that is known here.
std::string binary_kind(std::string_view head);

/// Likewise, and also "an HTML page, ...", "JSON" and other text that is easily told.
std::string file_kind(std::string_view head);

/// The first bytes of a file, fewer where it is short or cannot be read.
std::string file_head(const std::string& path);

}  // namespace koios
