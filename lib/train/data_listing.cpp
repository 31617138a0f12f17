#include "train/data_listing.hpp"

#include <fstream>
#include <iomanip>
#include <map>
#include <sstream>
#include <string>

#include "core/log.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

/// Path to "fingerprint size".
using Listing = std::map<std::string, std::string>;

Listing list_files(const DataOptions& options) {
  std::vector<DataSource> sources = options.mixture;
  if (sources.empty()) sources.push_back({options.format, options.path, 1});
  BadData ignored(BadData::Policy::skip);  // the reader itself will tell
  Listing listing;
  for (const DataSource& source : sources) {
    for (const std::string& file :
         find_dataset_files(source.path, source.format, options.split, &ignored)) {
      listing[fs::absolute(file).string()] =
          cat(std::hex, std::setw(16), std::setfill('0'), files_fingerprint({file}), std::dec, " ",
              fs::file_size(file));
    }
  }
  return listing;
}

Listing read_listing(const fs::path& path) {
  Listing listing;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string fingerprint;
    std::string size;
    std::string file;
    if (fields >> fingerprint >> size && std::getline(fields >> std::ws, file)) {
      listing[file] = cat(fingerprint, " ", size);
    }
  }
  return listing;
}

}  // namespace

void note_data_files(const RunFolder& folder, const DataOptions& options) {
  const fs::path path = folder.file("data_files.txt");
  const Listing now = list_files(options);
  for (const auto& [file, was] : read_listing(path)) {
    const auto at = now.find(file);
    if (at == now.end()) {
      log::warning("data: ", file, " was read by the last start in this folder, not by this one");
    } else if (at->second != was) {
      log::warning("data: ", file, " has changed since the last start in this folder");
    }
  }
  std::ofstream out(path);
  for (const auto& [file, is] : now) out << is << " " << file << "\n";
  if (!out.flush()) throw UserError(cat("cannot write ", path.string()));
}

}  // namespace koios
