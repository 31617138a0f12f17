#include "checkpoint/detail/posix_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "core/error.hpp"

namespace koios::checkpoint {
namespace {

constexpr std::int64_t kLargestCall = std::int64_t{1} << 30;  // Linux stops at 2 GiB - 4 KiB

int flags_of(PosixFile::Mode mode) {
  switch (mode) {
    case PosixFile::Mode::read:
      return O_RDONLY;
    case PosixFile::Mode::write:
      return O_RDWR;
    case PosixFile::Mode::create:
      return O_RDWR | O_CREAT | O_TRUNC;
  }
  KOIOS_REQUIRE(false, "unknown mode");
}

std::string free_space(int fd) {
  struct statvfs info = {};
  if (::fstatvfs(fd, &info) != 0) return "";
  return cat("; ", static_cast<std::int64_t>(info.f_bavail * info.f_frsize) >> 20, " MiB are free");
}

}  // namespace

void close_descriptor(int fd) { ::close(fd); }

PosixFile::PosixFile(std::filesystem::path path, Mode mode)
    : path_(std::move(path)), fd_(::open(path_.c_str(), flags_of(mode) | O_CLOEXEC, 0666)) {
  if (!fd_) fail(mode == Mode::create ? "cannot make" : "cannot open");
}

PosixFile::PosixFile(std::filesystem::path path, int descriptor)
    : path_(std::move(path)), fd_(descriptor) {
  if (!fd_) fail("cannot make");
}

PosixFile PosixFile::in_memory() {
  const int fd = ::memfd_create("koios", MFD_CLOEXEC);
  return {fd < 0 ? "a file in memory" : cat("/proc/self/fd/", fd), fd};
}

void PosixFile::fail(const char* what) const {
  const int error = errno;
  throw UserError(cat(what, " ", path_.string(), ": ", std::strerror(error),
                      error == ENOSPC || error == EDQUOT ? free_space(fd_.get()) : ""));
}

void PosixFile::write_at(std::int64_t offset, const void* data, std::int64_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n =
        ::pwrite(fd_.get(), from, static_cast<std::size_t>(std::min(bytes, kLargestCall)), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot write");
    from += n;
    offset += n;
    bytes -= n;
  }
}

void PosixFile::read_at(std::int64_t offset, void* data, std::int64_t bytes) const {
  auto* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n =
        ::pread(fd_.get(), to, static_cast<std::size_t>(std::min(bytes, kLargestCall)), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot read");
    if (n == 0) throw UserError(cat(path_.string(), " ends at byte ", offset, ": it is truncated"));
    to += n;
    offset += n;
    bytes -= n;
  }
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
  const Handle<int, &close_descriptor, -1> fd(
      ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some network file systems cannot sync a folder and do not need it: their renames are on the
  // server when the call returns.
  if (!fd || (::fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP)) {
    throw UserError(
        cat("cannot bring the folder ", folder.string(), " to the disk: ", std::strerror(errno)));
  }
}

}  // namespace koios::checkpoint
