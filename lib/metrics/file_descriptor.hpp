// Owned POSIX file descriptors, and writing to them in full.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "runtime/handle.hpp"

namespace koios {

inline void close_descriptor(int fd) { ::close(fd); }
using FileDescriptor = Handle<int, &close_descriptor, -1>;

/// False with errno set if not all of `text` could be written.
inline bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace koios
