#include "checkpoint/detail/posix_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "core/error.hpp"

namespace koios::checkpoint {
namespace {

/// A pipe in a file's place must not hold the run until somebody opens its other end.
FileDescriptor open_for_reading(const std::filesystem::path& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd) throw UserError(cat("cannot open ", path.string(), ": ", std::strerror(errno)));
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    throw UserError(cat(path.string(), S_ISDIR(info.st_mode) ? " is a folder" : " is not a file"));
  }
  return fd;
}

FileDescriptor open(const std::filesystem::path& path, PosixFile::Mode mode) {
  switch (mode) {
    case PosixFile::Mode::read:
      return open_for_reading(path);
    case PosixFile::Mode::write:
      return files::reopen(path, O_RDWR);
    case PosixFile::Mode::create:
      return files::create(path);
  }
  KOIOS_REQUIRE(false, "unknown mode");
}

}  // namespace

PosixFile::PosixFile(std::filesystem::path path, Mode mode)
    : path_(std::move(path)), fd_(open(path_, mode)) {}

PosixFile::PosixFile(std::filesystem::path path, int descriptor)
    : path_(std::move(path)), fd_(descriptor) {
  if (!fd_) fail("cannot make");
}

PosixFile PosixFile::in_memory() {
  const int fd = ::memfd_create("koios", MFD_CLOEXEC);
  return {fd < 0 ? "a file in memory" : cat("/proc/self/fd/", fd), fd};
}

void PosixFile::fail(const char* what) const {
  throw UserError(cat(what, " ", path_.string(), ": ", files::reason(errno, fd_.get())));
}

void PosixFile::write_at(std::int64_t offset, const void* data, std::int64_t bytes) {
  const std::span from(static_cast<const std::byte*>(data), static_cast<std::size_t>(bytes));
  if (!files::write_at(fd_.get(), offset, from)) fail("cannot write");
}

void PosixFile::read_at(std::int64_t offset, void* data, std::int64_t bytes) const {
  const std::span to(static_cast<std::byte*>(data), static_cast<std::size_t>(bytes));
  const std::int64_t n = files::read_at(fd_.get(), offset, to);
  if (n == bytes) return;
  if (errno != 0) fail("cannot read");
  throw UserError(cat(path_.string(), " ends at byte ", offset + n, ": it is truncated"));
}

void PosixFile::will_need(std::int64_t offset, std::int64_t bytes) const {
  ::posix_fadvise(fd_.get(), offset, bytes, POSIX_FADV_WILLNEED);
}

std::int64_t PosixFile::size() const {
  struct stat info = {};
  if (::fstat(fd_.get(), &info) != 0) fail("cannot look at");
  return info.st_size;
}

void PosixFile::reserve(std::int64_t bytes) {
  // glibc's posix_fallocate would write into every block where the file system cannot reserve:
  // there, what is free now has to do.
  if (::fallocate(fd_.get(), 0, 0, bytes) == 0) return;
  if (errno != EOPNOTSUPP && errno != ENOSYS) {
    const std::string what = cat("cannot reserve ", (bytes >> 20) + 1, " MiB for");
    fail(what.c_str());
  }
  struct statvfs info = {};
  if (::fstatvfs(fd_.get(), &info) != 0) fail("cannot look at the file system of");
  if (static_cast<std::int64_t>(info.f_bavail * info.f_frsize) < bytes) {
    errno = ENOSPC;
    fail("cannot write");
  }
}

void PosixFile::resize(std::int64_t bytes) {
  if (::ftruncate(fd_.get(), bytes) != 0) fail("cannot set the size of");
}

std::int64_t PosixFile::seek(std::int64_t from, int what) const {
  const off_t at = ::lseek(fd_.get(), from, what);
  if (at < 0 && errno != ENXIO) fail("cannot look for what was written in");
  return at;
}

void PosixFile::copy_written_to(PosixFile& other) const {
  std::vector<char> content;
  std::int64_t at = 0;
  while ((at = seek(at, SEEK_DATA)) >= 0) {
    const std::int64_t end = seek(at, SEEK_HOLE);
    content.resize(static_cast<std::size_t>(end - at));
    read_at(at, content.data(), end - at);
    other.write_at(at, content.data(), end - at);
    at = end;
  }
}

void PosixFile::sync() {
  if (::fsync(fd_.get()) != 0) fail("cannot bring to the disk");
}

void PosixFile::drop_cache() { ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED); }

void sync_folder(const std::filesystem::path& folder) {
  const FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some network file systems cannot sync a folder and do not need it: their renames are on the
  // server when the call returns.
  if (!fd || (::fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP)) {
    throw UserError(
        cat("cannot bring the folder ", folder.string(), " to the disk: ", std::strerror(errno)));
  }
}

}  // namespace koios::checkpoint
