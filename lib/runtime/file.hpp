// Files by their descriptors: owned, moved whole, and opened so that what a run writes is its own.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/handle.hpp"

namespace koios {

inline void close_descriptor(int fd) { ::close(fd); }
using FileDescriptor = Handle<int, &close_descriptor, -1>;

namespace files {

/// How many bytes were read. Where they are fewer than asked for, errno says why; 0: the file ends.
std::int64_t read_at(int fd, std::int64_t offset, std::span<std::byte> to);
/// False, with errno, where not all could be written.
bool write_at(int fd, std::int64_t offset, std::span<const std::byte> from);
/// The same where the descriptor stands.
bool write_all(int fd, std::string_view text);

/// The system's words for `error`; where there is no more room, also how much there is for `fd`.
std::string reason(int error, int fd = -1);
/// Where the program was started without standard input, output or error, their numbers are taken,
/// so that no file that it opens gets what is printed: whoever uses them gets an error as before.
void hold_standard_descriptors();
/// From here on a file that outgrows `ulimit -f` is an error as a full disk is, where the system
/// would end the process without a word.
void report_too_large_files();

// What a run writes it never writes through a link, whose end may be anybody's file, nor into what
// is no file. UserError says what is in the way.

/// A file that was not there before. One that an earlier run left under this name is removed.
FileDescriptor create(const std::filesystem::path& path);
/// A file of an earlier run, for reading and writing; made where it is missing.
/// flags: O_APPEND or nothing.
FileDescriptor open_or_create(const std::filesystem::path& path, int flags = 0);
/// A file that this run has made.
FileDescriptor reopen(const std::filesystem::path& path, int flags);

/// UserError where a link, or what is no folder, lies in the place of a folder.
void require_own_folder(const std::filesystem::path& path);

/// At every instant the file holds its old text or `text`. UserError where it cannot be written.
void replace(const std::filesystem::path& path, std::string_view text);
/// What a run wrote before: nothing where there is no file of this name, or one above `most_bytes`.
std::optional<std::string> read_whole(const std::filesystem::path& path, std::int64_t most_bytes);

}  // namespace files
}  // namespace koios
