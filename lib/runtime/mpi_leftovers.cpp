#include "runtime/mpi_leftovers.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <optional>
#include <set>
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

/// Folders of jobs (jf.NUMBER) that have lost what was in them: a live job's holds its ranks'. One
/// that is new may be about to get them.
void remove_empty_jobs(const fs::path& folder) {
  constexpr std::chrono::minutes kNew{1};
  if (!is_own(folder, S_IFDIR)) return;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("jf.") || !number_in(std::string_view(name).substr(3))) continue;
    if (!is_own(entry.path(), S_IFDIR)) continue;
    std::error_code gone;
    const auto changed = fs::last_write_time(entry.path(), gone);
    if (gone || fs::file_time_type::clock::now() - changed < kNew) continue;
    ::rmdir(entry.path().c_str());  // refuses what is not empty
  }
}

/// Of all jobs of one launcher, the upper half of their numbers: contact.txt begins with one.
std::optional<std::uint32_t> job_family(const fs::path& session) {
  std::ifstream contact(session / "contact.txt");
  std::uint32_t number = 0;
  if (!(contact >> number)) return std::nullopt;
  return number >> 16;
}

/// Every file that a process of this user has open or mapped. Open ones first: a segment is mapped
/// before its maker closes it.
std::set<std::string> files_in_use() {
  std::set<std::string> used;
  std::error_code error;
  for (const auto& process : fs::directory_iterator("/proc", error)) {
    const fs::path& folder = process.path();
    if (!number_in(folder.filename().string()) || !is_own(folder, S_IFDIR)) continue;
    std::error_code ended;
    for (fs::directory_iterator file(folder / "fd", ended), end; !ended && file != end;
         file.increment(ended)) {
      std::error_code closed;
      const fs::path target = fs::read_symlink(file->path(), closed);
      if (!closed) used.insert(target.string());
    }
    std::ifstream maps(folder / "maps");
    for (std::string line; std::getline(maps, line);) {
      if (const auto path = line.find('/'); path != line.npos) used.insert(line.substr(path));
    }
  }
  return used;
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

/// First the lists, then who uses what is on them: what is made in between is on none.
void remove_unused(const std::string& node, const MpiLeftoverPlaces& places) {
  const fs::path folder = places.sessions.empty() ? sessions_folder() : places.sessions;
  remove_empty_jobs(folder / cat("ompi.", node));
  const std::vector<Segment> segments = find_segments(places.segments, node);
  const std::vector<Session> sessions = find_sessions(folder / cat("ompi.", node));
  if (segments.empty() && sessions.empty()) return;
  const std::set<std::string> used = files_in_use();

  std::set<std::uint32_t> live_families;
  std::set<std::uint32_t> live_jobs;
  for (const Session& session : sessions) {
    if (is_alive(session.launcher) || is_within(session.path.string(), used)) {
      if (const auto family = job_family(session.path)) live_families.insert(*family);
    } else {
      std::error_code error;
      fs::remove_all(session.path, error);  // follows no links
    }
  }
  for (const Segment& segment : segments) {
    if (used.contains(segment.path.string())) live_jobs.insert(segment.job);
  }
  for (const Segment& segment : segments) {
    if (live_jobs.contains(segment.job) || live_families.contains(segment.job >> 16)) continue;
    ::unlink(segment.path.c_str());
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
