#include "runtime/mpi_leftovers.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <vector>

#include "core/error.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

/// The whole of `text` as a number.
std::optional<std::uint32_t> number_in(std::string_view text, int base = 10) {
  std::uint32_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number, base);
  if (text.empty() || stop != end || error != std::errc()) return std::nullopt;
  return number;
}

/// A file or folder (type: S_IFREG or S_IFDIR) of this user itself, not one that a link leads to.
bool is_own(const fs::path& path, mode_t type) {
  struct stat status = {};
  return ::lstat(path.c_str(), &status) == 0 && (status.st_mode & S_IFMT) == type &&
         status.st_uid == ::geteuid();
}

/// The job's number in the name of a segment, HOST.UID.JOB.RANK behind the first word.
std::optional<std::uint32_t> job_of_segment(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  const auto dot = name.find('.');
  if (dot == name.npos || !number_in(name.substr(dot + 1))) return std::nullopt;
  return number_in(name.substr(0, dot), 16);
}

struct Segment {
  fs::path path;
  std::uint32_t job = 0;
};

std::vector<Segment> find_segments(const fs::path& folder, const std::string& node) {
  std::vector<Segment> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto job =
        job_of_segment(entry.path().filename().string(), cat("vader_segment.", node, '.'));
    if (job && is_own(entry.path(), S_IFREG)) found.push_back({entry.path(), *job});
  }
  return found;
}

struct Session {
  fs::path path;
  pid_t launcher = 0;
};

std::vector<Session> find_sessions(const fs::path& folder) {
  std::vector<Session> found;
  if (!is_own(folder, S_IFDIR)) return found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const auto pid =
        name.starts_with("pid.") ? number_in(std::string_view(name).substr(4)) : std::nullopt;
    if (pid && *pid > 0 && is_own(entry.path(), S_IFDIR)) {
      found.push_back({entry.path(), static_cast<pid_t>(*pid)});
    }
  }
  return found;
}

/// Of all jobs of one launcher, the upper half of their numbers: contact.txt begins with one.
std::optional<std::uint32_t> job_family(const fs::path& session) {
  std::ifstream contact(session / "contact.txt");
  std::uint32_t number = 0;
  if (!(contact >> number)) return std::nullopt;
  return number >> 16;
}

/// What the processes of this user do.
struct Processes {
  std::set<std::string> files;  // that any has open or mapped
  double first_mpi_start_s;     // of this one and those with Open MPI in them, since the epoch
};

/// The words of /proc/stat that say when the machine was started.
double boot_time_s() {
  std::ifstream stat("/proc/stat");
  double seconds = 0;
  for (std::string word; stat >> word;) {
    if (word == "btime" && stat >> seconds) break;
  }
  return seconds;
}

/// 0, which is before everything, where it cannot be told.
double start_time_s(const fs::path& process, double boot_s) {
  constexpr int kStartTime = 22;  // proc(5), counted from 1
  std::ifstream file(process / "stat");
  std::string stat{std::istreambuf_iterator<char>(file), {}};
  std::istringstream fields(stat.substr(std::min(stat.rfind(')') + 1, stat.size())));
  std::string field;
  for (int i = 2; i < kStartTime; ++i) fields >> field;
  const auto ticks = fields ? number_in(field) : std::nullopt;
  return ticks ? boot_s + static_cast<double>(*ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK))
               : 0;
}

/// Open files first: a segment is mapped before its maker closes it.
Processes look_at_processes() {
  const double boot_s = boot_time_s();
  Processes found{{}, start_time_s("/proc/self", boot_s)};
  std::error_code error;
  for (const auto& process : fs::directory_iterator("/proc", error)) {
    const fs::path& folder = process.path();
    if (!number_in(folder.filename().string()) || !is_own(folder, S_IFDIR)) continue;
    std::error_code ended;
    for (fs::directory_iterator file(folder / "fd", ended), end; !ended && file != end;
         file.increment(ended)) {
      std::error_code closed;
      const fs::path target = fs::read_symlink(file->path(), closed);
      if (!closed) found.files.insert(target.string());
    }
    std::ifstream maps(folder / "maps");
    // One that does not show its own may have it; but not the one that started the machine.
    bool has_mpi = !maps && fs::exists(folder, ended) && folder.filename() != "1";
    for (std::string line; std::getline(maps, line);) {
      const auto path = line.find('/');
      if (path == line.npos) continue;
      has_mpi = has_mpi || line.find("/libmpi.") != line.npos ||
                line.find("/libopen-rte.") != line.npos || line.find("/libpmix.") != line.npos;
      found.files.insert(line.substr(path));
    }
    if (has_mpi) {
      found.first_mpi_start_s = std::min(found.first_mpi_start_s, start_time_s(folder, boot_s));
    }
  }
  return found;
}

bool is_within(const std::string& folder, const std::set<std::string>& files) {
  const auto first = files.lower_bound(folder + "/");
  return first != files.end() && first->starts_with(folder + "/");
}

bool is_alive(pid_t pid) { return ::kill(pid, 0) == 0 || errno != ESRCH; }

/// Of the first processes' namespace, which sees all others; its number is fixed.
bool sees_all_processes() {
  std::error_code error;
  return fs::read_symlink("/proc/self/ns/pid", error) == "pid:[4026531836]";
}

fs::path sessions_folder() {
  for (const char* name : {"OMPI_MCA_orte_tmpdir_base", "TMPDIR"}) {
    if (const char* value = std::getenv(name); value != nullptr && *value == '/') return value;
  }
  return "/tmp";
}

/// When a file or folder was last changed, in seconds since the epoch; infinity where it is gone.
double changed_s(const fs::path& path) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(status.st_mtim.tv_sec);
}

/// Folders of jobs that had no launcher (jf.FAMILY). Nothing in them need be open while their job
/// lives, but whoever made one was started before that.
std::vector<fs::path> find_jobs(const fs::path& folder) {
  std::vector<fs::path> found;
  if (!is_own(folder, S_IFDIR)) return found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("jf.") || !number_in(std::string_view(name).substr(3))) continue;
    if (is_own(entry.path(), S_IFDIR)) found.push_back(entry.path());
  }
  return found;
}

/// Semaphores of files that MPI-IO had open.
std::vector<fs::path> find_semaphores(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const bool is_one = entry.path().filename().string().starts_with("sem.OMPIO_");
    if (is_one && is_own(entry.path(), S_IFREG)) found.push_back(entry.path());
  }
  return found;
}

/// First the lists, then who uses what is on them: what is made in between is on none.
void remove_unused(const std::string& node, const MpiLeftoverPlaces& places) {
  constexpr double kMarginS = 60;  // clocks are set
  const fs::path folder =
      (places.sessions.empty() ? sessions_folder() : places.sessions) / cat("ompi.", node);
  const std::vector<Segment> segments = find_segments(places.segments, node);
  const std::vector<fs::path> semaphores = find_semaphores(places.segments);
  const std::vector<fs::path> jobs = find_jobs(folder);
  const std::vector<Session> sessions = find_sessions(folder);
  if (segments.empty() && semaphores.empty() && jobs.empty() && sessions.empty()) return;
  const Processes live = look_at_processes();
  const auto is_older_than_all = [&](const fs::path& path) {
    return changed_s(path) + kMarginS < live.first_mpi_start_s;
  };

  std::set<std::uint32_t> live_families;
  std::set<std::uint32_t> live_jobs;
  std::error_code error;
  for (const Session& session : sessions) {
    if (is_alive(session.launcher) || is_within(session.path.string(), live.files)) {
      if (const auto family = job_family(session.path)) live_families.insert(*family);
    } else {
      fs::remove_all(session.path, error);  // follows no links
    }
  }
  for (const Segment& segment : segments) {
    if (live.files.contains(segment.path.string())) live_jobs.insert(segment.job);
  }
  for (const Segment& segment : segments) {
    if (live_jobs.contains(segment.job) || live_families.contains(segment.job >> 16)) continue;
    ::unlink(segment.path.c_str());
  }
  for (const fs::path& job : jobs) {
    if (is_older_than_all(job) && !is_within(job.string(), live.files)) fs::remove_all(job, error);
  }
  for (const fs::path& semaphore : semaphores) {
    if (is_older_than_all(semaphore) && !live.files.contains(semaphore.string())) {
      ::unlink(semaphore.c_str());
    }
  }
}

}  // namespace

void remove_mpi_leftovers(const std::string& host, const MpiLeftoverPlaces& places) noexcept {
  try {
    if (host.empty() || !sees_all_processes()) return;
    const std::string short_name = host.substr(0, host.find('.'));
    const std::set<std::string> names = {short_name, host};
    for (const std::string& name : names) remove_unused(cat(name, '.', ::geteuid()), places);
  } catch (const std::exception&) {  // a job does not fail for what another has left
  }
}

}  // namespace koios
