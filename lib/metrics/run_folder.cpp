#include "metrics/run_folder.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.hpp"
#include "core/log.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFix = "; name another with job/dump_folder=...";

std::string reason(int error) {
  const bool refused = error == EACCES || error == EPERM || error == EROFS;
  return cat(refused ? "is read-only: " : "cannot be written: ", std::strerror(error));
}

void make_folder(const fs::path& path) {
  std::error_code error;
  std::error_code unknown;  // of a folder below one that may not be entered
  fs::create_directories(path, error);
  if (fs::is_directory(path, unknown)) return;
  if (fs::exists(path, unknown))
    throw UserError(cat("run folder '", path.string(), "' is a file", kFix));
  // create_directories reports an existing file in the way as "not a directory".
  throw UserError(cat("run folder '", path.string(), "' cannot be made: ", error.message(), kFix));
}

/// "host pid" of who holds, or held last, the folder.
std::string holder(int fd) {
  char text[300] = {};
  const ssize_t n = ::pread(fd, text, sizeof text - 1, 0);
  std::string line(text, n > 0 ? static_cast<std::size_t>(n) : 0);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

/// Open-file-description locks end with the process, however it ends, and work over NFS.
void lock(int fd, const fs::path& path) {
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &whole) == 0) return;
  if (errno == EAGAIN || errno == EACCES) {
    throw UserError(cat("run folder '", path.string(),
                        "' is in use by another run (host, process: ", holder(fd), ")", kFix));
  }
  log::warning("run folder '", path.string(), "': its file system has no locks (",
               std::strerror(errno), "), so nothing keeps a second job out of it");
}

int run_of(const Json& entry) {
  return entry.is_object() && entry.contains("run") && entry["run"].is_number_integer()
             ? entry["run"].get<int>()
             : 0;
}

int last_run_in_provenance(const fs::path& path) {
  if (!fs::is_regular_file(path)) return 0;
  std::ifstream in(path);
  const Json runs = Json::parse(in, nullptr, /*allow_exceptions=*/false);
  int last = 0;
  if (runs.is_array()) {
    for (const Json& entry : runs) last = std::max(last, run_of(entry));
  }
  return last;
}

/// From the last whole row; rows are far shorter than the tail that is read.
int last_run_in_metrics(const fs::path& path) {
  constexpr std::streamoff kTail = 64 * 1024;
  if (!fs::is_regular_file(path)) return 0;  // a device would have no end
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return 0;
  in.seekg(std::max<std::streamoff>(0, in.tellg() - kTail));
  std::string tail{std::istreambuf_iterator<char>(in), {}};
  const auto end = tail.rfind('\n');
  if (end == std::string::npos) return 0;
  tail.resize(end);
  const auto start = tail.rfind('\n');
  if (start != std::string::npos) tail.erase(0, start + 1);
  return run_of(Json::parse(tail, nullptr, /*allow_exceptions=*/false));
}

}  // namespace

RunFolder::RunFolder(const fs::path& path) : path_(path) {
  make_folder(path);
  lock_ = FileDescriptor(::open(file("run.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!lock_) throw UserError(cat("run folder '", path.string(), "' ", reason(errno), kFix));
  lock(lock_.get(), path);
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  if (::ftruncate(lock_.get(), 0) != 0 ||
      !write_all(lock_.get(), cat(host, " ", ::getpid(), "\n"))) {
    throw UserError(cat("run folder '", path.string(), "' ", reason(errno), kFix));
  }
  run_ = 1 + std::max(last_run_in_provenance(file("provenance.json")),
                      last_run_in_metrics(file("metrics.jsonl")));
}

RunFolder::~RunFolder() {
  // An empty lock file says that the job ended by itself, also where locks do not reach.
  if (lock_ && ::ftruncate(lock_.get(), 0) != 0) {
    log::warning("cannot empty ", file("run.lock").string(), ": ", std::strerror(errno));
  }
}

}  // namespace koios
