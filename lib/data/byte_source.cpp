#include "data/byte_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/integers.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

class FileSource final : public ByteSource {
 public:
  FileSource(const std::string& path, std::int64_t* passed)
      : path_(path),
        file_(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)),
        passed_(passed) {
    struct stat status = {};
    if (!file_ || ::fstat(file_.get(), &status) != 0) {
      throw UserError(cat(path, ": cannot be opened: ", std::strerror(errno)));
    }
    size_ = status.st_size;
  }

  /// What is written behind the end meanwhile does not count.
  std::size_t read(char* into, std::size_t size) override {
    const std::int64_t wanted = std::min(narrow<std::int64_t>(size), size_ - position_);
    if (wanted <= 0) return 0;
    ssize_t count = 0;
    do {
      count = ::pread(file_.get(), into, static_cast<std::size_t>(wanted), position_);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
      throw BadFile(
          cat(path_, ": reading failed after byte ", position_, ": ", std::strerror(errno)));
    }
    move(count);
    return static_cast<std::size_t>(count);
  }

  std::int64_t skip(std::int64_t bytes) override {
    const std::int64_t there = std::clamp<std::int64_t>(size_ - position_, 0, bytes);
    move(there);
    return there;
  }

 private:
  void move(std::int64_t bytes) {
    position_ += bytes;
    if (passed_ != nullptr) *passed_ += bytes;
  }

  std::string path_;
  FileDescriptor file_;
  std::int64_t* passed_;
  std::int64_t size_ = 0;
  std::int64_t position_ = 0;
};

}  // namespace

std::int64_t ByteSource::skip(std::int64_t bytes) {
  std::array<char, 16384> dropped{};
  std::int64_t skipped = 0;
  while (skipped < bytes) {
    const auto wanted = std::min<std::int64_t>(bytes - skipped, std::ssize(dropped));
    const std::size_t count = read(dropped.data(), static_cast<std::size_t>(wanted));
    if (count == 0) break;
    skipped += narrow<std::int64_t>(count);
  }
  return skipped;
}

std::unique_ptr<ByteSource> open_file(const std::string& path, std::int64_t* passed) {
  return std::make_unique<FileSource>(path, passed);
}

std::string_view PeekSource::peek(std::size_t size) {
  constexpr std::size_t kAtOnce = 4096;  // all of a small file
  while (ahead_.size() < size) {
    const std::size_t kept = ahead_.size();
    ahead_.resize(std::max(size, kAtOnce));
    const std::size_t count = source_->read(ahead_.data() + kept, ahead_.size() - kept);
    ahead_.resize(kept + count);
    if (count == 0) break;
  }
  return std::string_view(ahead_).substr(0, size);
}

std::size_t PeekSource::read(char* into, std::size_t size) {
  if (ahead_.empty()) return source_->read(into, size);
  const std::size_t count = std::min(size, ahead_.size());
  std::memcpy(into, ahead_.data(), count);
  ahead_.erase(0, count);
  return count;
}

std::int64_t PeekSource::skip(std::int64_t bytes) {
  const auto held = std::min<std::int64_t>(bytes, std::ssize(ahead_));
  ahead_.erase(0, static_cast<std::size_t>(held));
  return held == bytes ? held : held + source_->skip(bytes - held);
}

}  // namespace koios
