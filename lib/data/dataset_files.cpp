#include "data/dataset_files.hpp"

#include <glob.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "core/error.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

bool has_extension(const fs::path& path, const std::vector<std::string_view>& extensions) {
  return std::ranges::find(extensions, path.extension().string()) != extensions.end();
}

std::vector<std::string> files_of_folder(const std::string& folder, DataFormat format) {
  const auto& extensions = record_format(format).extensions;
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->is_regular_file() && has_extension(entry->path(), extensions)) {
      files.push_back(entry->path().string());
    }
  }
  if (error) throw UserError(cat(folder, ": ", error.message()));
  if (files.empty()) {
    std::string wanted;
    for (const auto extension : extensions) wanted += cat(wanted.empty() ? "*" : ", *", extension);
    throw UserError(cat(folder, ": a folder without ", wanted, " for format ", to_string(format),
                        "; files of another name can be given as a glob: '", folder, "/*'"));
  }
  return files;
}

std::vector<std::string> files_of_glob(const std::string& pattern) {
  glob_t matches{};
  const int code = ::glob(pattern.c_str(), 0, nullptr, &matches);
  std::vector<std::string> files;
  for (std::size_t i = 0; code == 0 && i < matches.gl_pathc; ++i) {
    if (fs::is_regular_file(matches.gl_pathv[i])) files.emplace_back(matches.gl_pathv[i]);
  }
  ::globfree(&matches);
  if (files.empty()) throw UserError(cat(pattern, ": no file matches"));
  return files;
}

}  // namespace

std::vector<std::string> find_dataset_files(const std::string& path, DataFormat format) {
  if (path.empty()) throw UserError("no data: training/dataset_path is a file, a folder or a glob");
  std::vector<std::string> files;
  if (fs::is_directory(path)) {
    files = files_of_folder(path, format);
  } else if (fs::is_regular_file(path)) {
    files = {path};
  } else if (path.find_first_of("*?[") != std::string::npos) {
    files = files_of_glob(path);
  } else {
    throw UserError(cat(path, ": no such file or folder"));
  }
  std::ranges::sort(files);
  for (const std::string& file : files) {
    if (::access(file.c_str(), R_OK) != 0) throw UserError(cat(file, ": may not be read"));
    if (has_extension(file, {".gz", ".zst", ".xz", ".bz2", ".tar", ".parquet"})) {
      throw UserError(cat(file, ": compressed and packed files are not read; unpack it first"));
    }
  }
  return files;
}

}  // namespace koios
