#include "metrics/run_folder.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.hpp"
#include "core/log.hpp"
#include "metrics/shallow_json.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFix = "; name another with job/dump_folder=...";
constexpr std::int64_t kMostLockBytes = 300;

[[noreturn]] void refuse(const fs::path& path, const std::string& why) {
  throw UserError(cat("run folder '", path.string(), "' ", why, kFix));
}

void make_folder(const fs::path& path) {
  std::error_code error;
  std::error_code unknown;  // of a folder below one that may not be entered
  fs::create_directories(path, error);
  if (fs::is_directory(path, unknown)) return;
  if (fs::exists(path, unknown)) refuse(path, "is a file");
  const bool is_loop = error == std::errc::too_many_symbolic_link_levels;
  if (!is_loop && fs::is_symlink(fs::symlink_status(path, unknown))) {
    refuse(path,
           cat("is a link to ", fs::read_symlink(path, unknown).string(), ", which is not there"));
  }
  // create_directories reports an existing file in the way as "not a directory".
  refuse(path, cat("cannot be made: ", error.message()));
}

/// "n1 17, Slurm job 4" (host, process) of who holds, or held last, the folder.
std::string holder(int fd, const fs::path& path) {
  std::string text(kMostLockBytes + 1, '\0');
  const std::int64_t n = files::read_at(fd, 0, std::as_writable_bytes(std::span(text)));
  text.resize(static_cast<std::size_t>(n));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (n > kMostLockBytes || text.find('\n') != std::string::npos) {
    refuse(path, "holds a file run.lock that is none of Koios: move it away");
  }
  return text;
}

/// ", Slurm job 4"; empty where no batch system started this.
std::string batch_job() {
  constexpr std::array<std::array<const char*, 2>, 4> kSystems = {{{"Slurm", "SLURM_JOB_ID"},
                                                                   {"PBS", "PBS_JOBID"},
                                                                   {"Flux", "FLUX_JOB_ID"},
                                                                   {"LSF", "LSB_JOBID"}}};
  for (const auto& [system, variable] : kSystems) {
    const char* id = std::getenv(variable);
    if (id != nullptr && *id != '\0') return cat(", ", system, " job ", id);
  }
  return "";
}

/// Open-file-description locks end with the process, however it ends, and work over NFS.
void lock(int fd, const fs::path& path) {
  const std::string held_by = holder(fd, path);
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &whole) == 0) return;
  if (errno == EAGAIN || errno == EACCES) {
    refuse(path, cat("is in use by another run (host, process: ", held_by, ")"));
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
  const Json runs = parse_shallow_json(files::read_whole(path, kMostProvenanceBytes).value_or(""));
  int last = 0;
  if (runs.is_array()) {
    for (const Json& entry : runs) last = std::max(last, run_of(entry));
  }
  return last;
}

/// From the last whole row; rows are far shorter than the tail that is read.
int last_run_in_metrics(const fs::path& path) {
  constexpr std::streamoff kTail = 64 * 1024;
  std::error_code unknown;
  if (!fs::is_regular_file(fs::symlink_status(path, unknown))) return 0;  // devices have no end
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return 0;
  in.seekg(std::max<std::streamoff>(0, in.tellg() - kTail));
  std::string tail{std::istreambuf_iterator<char>(in), {}};
  const auto end = tail.rfind('\n');
  if (end == std::string::npos) return 0;
  tail.resize(end);
  const auto start = tail.rfind('\n');
  if (start != std::string::npos) tail.erase(0, start + 1);
  return run_of(parse_shallow_json(tail));
}

}  // namespace

RunFolder::RunFolder(const fs::path& path) : path_(path) {
  make_folder(path);
  try {
    lock_ = files::open_or_create(file("run.lock"));
  } catch (const UserError& error) {
    refuse(path, cat("cannot be used: ", error.what()));
  }
  lock(lock_.get(), path);
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  if (::ftruncate(lock_.get(), 0) != 0 ||
      !files::write_all(lock_.get(), cat(host, " ", ::getpid(), batch_job(), "\n"))) {
    refuse(path, cat("cannot be written: ", files::reason(errno, lock_.get())));
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
