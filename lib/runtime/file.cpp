#include "runtime/file.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "core/error.hpp"

namespace koios::files {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLargestCall = std::size_t{1} << 30;  // Linux stops at 2 GiB - 4 KiB
constexpr mode_t kMode = 0666;                              // before the umask
/// O_NONBLOCK: a pipe in a file's place must not hold the run until somebody opens its other end.
constexpr int kOwn = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;

/// What lies under this name, in words; empty: a file, or nothing that can be looked at.
std::string in_the_way(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (fs::is_symlink(status)) {
    return cat("is a link to ", fs::read_symlink(path, error).string(),
               ", and Koios writes through no links: remove it");
  }
  if (!fs::exists(status) || fs::is_regular_file(status)) return "";
  return fs::is_directory(status) ? "is a folder" : "is not a file";
}

[[noreturn]] void refuse(const fs::path& path, int error) {
  const std::string what = in_the_way(path);
  throw UserError(what.empty() ? cat("cannot write ", path.string(), ": ", reason(error))
                               : cat(path.string(), " ", what));
}

FileDescriptor open_own(const fs::path& path, int flags) {
  FileDescriptor file(::open(path.c_str(), flags | kOwn, kMode));
  struct stat status = {};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) refuse(path, errno);
  return file;
}

}  // namespace

std::int64_t read_at(int fd, std::int64_t offset, std::span<std::byte> to) {
  const std::span<std::byte> whole = to;
  while (!to.empty()) {
    const ssize_t n = ::pread(fd, to.data(), std::min(to.size(), kLargestCall),
                              offset + std::ssize(whole) - std::ssize(to));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = 0;
    if (n <= 0) break;
    to = to.subspan(static_cast<std::size_t>(n));
  }
  return std::ssize(whole) - std::ssize(to);
}

bool write_at(int fd, std::int64_t offset, std::span<const std::byte> from) {
  while (!from.empty()) {
    const ssize_t n = ::pwrite(fd, from.data(), std::min(from.size(), kLargestCall), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    offset += n;
    from = from.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), std::min(text.size(), kLargestCall));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

std::string reason(int error, int fd) {
  std::string text = std::strerror(error);
  if (error == EFBIG) {
    struct rlimit limit = {};
    const bool is_limited =
        ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    text += is_limited ? cat("; this process may make files of at most ", limit.rlim_cur >> 10,
                             " KiB (ulimit -f)")
                       : "; it is above the largest that this file system has";
  }
  struct statvfs info = {};
  if ((error == ENOSPC || error == EDQUOT) && fd >= 0 && ::fstatvfs(fd, &info) == 0) {
    text += cat("; ", (info.f_bavail * info.f_frsize) >> 20, " MiB are free");
  }
  return text;
}

void hold_standard_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // An open gets the lowest number that is free; what may not be done with it is what would be.
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    if (::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) return;
  }
}

void report_too_large_files() { std::signal(SIGXFSZ, SIG_IGN); }

FileDescriptor create(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(fs::symlink_status(path, error))) fs::remove(path, error);
  return open_own(path, O_RDWR | O_CREAT | O_EXCL);
}

FileDescriptor open_or_create(const fs::path& path, int flags) {
  return open_own(path, O_RDWR | O_CREAT | flags);
}

FileDescriptor reopen(const fs::path& path, int flags) { return open_own(path, flags); }

void require_own_folder(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (!fs::exists(status) || fs::is_directory(status)) return;
  const std::string what = in_the_way(path);
  throw UserError(cat(path.string(), " ", what.empty() ? "is not a folder" : what));
}

void replace(const fs::path& path, std::string_view text) {
  if (!in_the_way(path).empty()) refuse(path, 0);
  const fs::path partial = path.string() + ".partial";
  const FileDescriptor file = create(partial);
  if (write_all(file.get(), text) && std::rename(partial.c_str(), path.c_str()) == 0) return;
  const std::string why = reason(errno, file.get());
  std::remove(partial.c_str());
  throw UserError(cat("cannot write ", path.string(), ": ", why));
}

std::optional<std::string> read_whole(const fs::path& path, std::int64_t most_bytes) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | kOwn));
  struct stat status = {};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  if (status.st_size > most_bytes) return std::nullopt;
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const std::int64_t size = read_at(file.get(), 0, std::as_writable_bytes(std::span(text)));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

}  // namespace koios::files
