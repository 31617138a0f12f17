#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "config/deck.hpp"
#include "core/error.hpp"
#include "core/file_kind.hpp"

namespace koios {
namespace {

constexpr std::size_t kLargestDeck = std::size_t{1} << 20;  // bytes; real ones have thousands
constexpr int kPatienceSeconds = 60;                        // for a pipe that nobody writes into

class DeckFile {
 public:
  explicit DeckFile(const std::string& path) : path_(path) {
    // Without waiting for the other end of a pipe.
    fd_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd_ < 0) refuse(std::strerror(errno) + hint());
  }
  DeckFile(const DeckFile&) = delete;
  DeckFile& operator=(const DeckFile&) = delete;
  ~DeckFile() {
    if (fd_ != STDIN_FILENO) ::close(fd_);
  }

  std::string read() {
    struct stat info = {};
    if (::fstat(fd_, &info) != 0) refuse(std::strerror(errno));
    if (S_ISDIR(info.st_mode)) refuse("it is a folder");
    std::string text;
    std::array<char, 1 << 16> block{};
    while (true) {
      if (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode)) wait();
      const ssize_t count = ::read(fd_, block.data(), block.size());
      if (count == 0) break;
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (count < 0) refuse(std::strerror(errno));
      text.append(block.data(), static_cast<std::size_t>(count));
      if (text.size() > kLargestDeck) {
        refuse(cat("it has more than ", kLargestDeck, " bytes; is this a deck?"));
      }
    }
    // What should have written it has failed; the defaults would run in its place.
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) refuse("it is empty");
    const std::string kind = file_kind(std::string_view(text).substr(0, kFileHeadBytes));
    if (!kind.empty() && !text.starts_with('[')) refuse(cat("it is ", kind));
    return text;
  }

 private:
  void wait() const {
    pollfd waiting = {fd_, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, kPatienceSeconds * 1000);
    if (ready < 0 && errno != EINTR) refuse(std::strerror(errno));
    if (ready == 0) refuse(cat("nothing came out of the pipe for ", kPatienceSeconds, " s"));
  }

  /// The shell's <(...) is a descriptor of the launcher, which its ranks do not have.
  std::string hint() const {
    const bool is_descriptor = path_.starts_with("/dev/fd/") || path_.starts_with("/proc/");
    return is_descriptor ? "; under a launcher give it as standard input: ... | mpirun ... koios -"
                         : "";
  }

  [[noreturn]] void refuse(const std::string& reason) const {
    throw UserError(
        cat("cannot read the deck ", path_ == "-" ? "(standard input)" : path_, ": ", reason));
  }

  std::string path_;
  int fd_ = -1;
};

}  // namespace

std::string read_deck_file(const std::string& path) { return DeckFile(path).read(); }

}  // namespace koios
