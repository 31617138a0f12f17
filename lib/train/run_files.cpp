#include "train/run_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "core/log.hpp"
#include "metrics/provenance.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

/// Path to "fingerprint size".
using Listing = std::map<std::string, std::string>;

/// A list of some millions of files; what is larger is no such list.
constexpr std::int64_t kMostBytes = std::int64_t{1} << 30;

/// Where a file lies, by whatever way through links and `..` its folder is reached. It keeps its
/// own name, though it may be a link: that is what its place in the order goes by.
class Places {
 public:
  std::string of(const fs::path& file) {
    const fs::path folder = fs::absolute(file).parent_path();
    auto [known, is_new] = folders_.try_emplace(folder, folder);
    if (is_new) {
      std::error_code error;
      const fs::path real = fs::canonical(folder, error);
      if (!error) known->second = real;
    }
    return (known->second / file.filename()).string();
  }

 private:
  std::map<fs::path, fs::path> folders_;
};

Listing list_files(const DataOptions& options) {
  std::vector<DataSource> sources = options.mixture;
  if (sources.empty()) sources.push_back({options.format, options.path, 1});
  BadData ignored(OnBadData::skip);  // the reader itself will tell
  Listing listing;
  Places places;
  for (const DataSource& source : sources) {
    for (const std::string& file :
         find_dataset_files(source.path, source.format, options.split, &ignored)) {
      listing[places.of(file)] =
          fmt::format("{:016x} {}", files_fingerprint({file}), fs::file_size(file));
    }
  }
  return listing;
}

Listing read_listing(const fs::path& path) {
  Listing listing;
  Places places;
  std::istringstream in(files::read_whole(path, kMostBytes).value_or(""));
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string fingerprint;
    std::string size;
    std::string file;
    if (fields >> fingerprint >> size && std::getline(fields >> std::ws, file)) {
      listing[places.of(file)] = cat(fingerprint, " ", size);
    }
  }
  return listing;
}

/// Of a dataset that was moved, every file has.
void warn_of(const std::vector<std::string>& changes) {
  constexpr std::size_t kMostNamed = 8;
  for (std::size_t i = 0; i < std::min(changes.size(), kMostNamed); ++i) {
    log::warning("data: ", changes[i]);
  }
  if (changes.size() > kMostNamed) {
    log::warning("data: and ", changes.size() - kMostNamed, " more files like these");
  }
}

/// Compares with data_files.txt, which files the run before read, one a line with a fingerprint and
/// a size. Returns what it shall hold.
std::string compare_data_files(const fs::path& path, const DataOptions& options) {
  const Listing now = list_files(options);
  const Listing before = read_listing(path);
  std::vector<std::string> changes;
  for (const auto& [file, was] : before) {
    const auto at = now.find(file);
    if (at == now.end()) {
      changes.push_back(cat(file, " was read by the last start in this folder, not by this one"));
    } else if (at->second != was) {
      changes.push_back(cat(file, " has changed since the last start in this folder"));
    }
  }
  std::string text;
  for (const auto& [file, is] : now) {
    text += cat(is, " ", file, "\n");
    if (!before.empty() && !before.contains(file)) {
      changes.push_back(cat(file, " was not read by the last start in this folder"));
    }
  }
  warn_of(changes);
  return text;
}

}  // namespace

RunFiles::RunFiles(const RunConfig& config, const Launch& launch,
                   const std::vector<std::string>& hosts, const DataOptions& data)
    : folder(config.job.dump_folder), metrics(folder) {
  if (const fs::path stop = folder.file("STOP"); fs::exists(stop)) {
    throw UserError(
        cat(stop.string(), " is there: a run in this folder stops; remove it to train on"));
  }
  files::replace(folder.file("effective.ini"), launch.effective_deck);
  write_provenance(folder, {.command_line = launch.command_line,
                            .libraries = launch.library_versions,
                            .hosts = hosts,
                            .threads_per_rank = DeviceEnv::host_threads()});
  data_files_ = compare_data_files(folder.file("data_files.txt"), data);
}

void RunFiles::note_data_files() const {
  files::replace(folder.file("data_files.txt"), data_files_);
}

}  // namespace koios
