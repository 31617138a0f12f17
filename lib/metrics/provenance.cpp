#include "metrics/provenance.hpp"

#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/log.hpp"
#include "metrics/build_info.hpp"
#include "metrics/shallow_json.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// The entries of earlier starts. A file that is no such array is put aside, not lost.
Json earlier_starts(const fs::path& path) {
  std::error_code unknown;
  // What is in its place, the writing tells.
  if (!fs::is_regular_file(fs::symlink_status(path, unknown))) return Json::array();
  Json runs = parse_shallow_json(files::read_whole(path, kMostProvenanceBytes).value_or(""));
  if (runs.is_array()) return runs;
  const fs::path aside = path.string() + ".unreadable";
  std::error_code error;
  fs::rename(path, aside, error);
  log::warning(path.string(), " is not a JSON array; ", error ? "it is replaced" : "it is kept as ",
               error ? "" : aside.string());
  return Json::array();
}

/// {"n1": 4, "n2": 4}: ranks of each host.
Json ranks_by_host(const std::vector<std::string>& hosts) {
  Json ranks = Json::object();
  for (const std::string& host : hosts) {
    ranks[host] = (ranks.contains(host) ? ranks[host].get<int>() : 0) + 1;
  }
  return ranks;
}

Json describe(const Provenance& provenance, int run) {
  Json libraries = Json::object();
  for (const auto& [name, version] : provenance.libraries) libraries[name] = version;
  std::error_code error;
  Json start = {{"run", run},
                {"start_time", iso_time_utc(provenance.start)},
                {"version", build_info::version()},
                {"git_commit", build_info::git_commit()},
                {"compiler", build_info::compiler()},
                {"build_type", build_info::build_type()},
                {"backend", build_info::backend()},
                {"libraries", libraries},
                {"command_line", provenance.command_line},
                {"working_folder", fs::current_path(error).string()},
                {"ranks", provenance.hosts.size()},
                {"threads_per_rank", provenance.threads_per_rank},
                {"ranks_by_host", ranks_by_host(provenance.hosts)}};
  if (const char* job = std::getenv("SLURM_JOB_ID")) start["slurm_job_id"] = job;
  return start;
}

}  // namespace

std::string iso_time_utc(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts = {};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

void write_provenance(const RunFolder& folder, const Provenance& provenance) {
  const fs::path path = folder.file("provenance.json");
  Json runs = earlier_starts(path);
  runs.push_back(describe(provenance, folder.run()));
  // Command lines and paths may hold bytes that are not UTF-8: they are replaced, not refused.
  files::replace(path, runs.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace koios
