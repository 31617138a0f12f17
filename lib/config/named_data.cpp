#include "config/named_data.hpp"

#include <glob.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/error.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPatternCharacters = "*?[";

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string quote(const std::string& name) {
  std::string quoted;
  for (const char c : name) {
    if (c == '\\' || kPatternCharacters.find(c) != std::string_view::npos) quoted += '\\';
    quoted += c;
  }
  return quoted;
}

/// The pattern with those of its leading folders quoted that exist under their names.
std::string pattern_of(const fs::path& path) {
  fs::path real;
  std::string pattern;
  bool is_real = true;
  for (const fs::path& part : path) {
    real /= part;
    is_real = is_real && is_there(real);
    if (!pattern.empty() && !pattern.ends_with('/')) pattern += '/';
    pattern += is_real ? quote(part.string()) : part.string();
  }
  return pattern;
}

NamedData what_fits(const std::string& path) {
  glob_t matches{};
  const int code = ::glob(pattern_of(path).c_str(), 0, nullptr, &matches);
  NamedData found;
  std::size_t folders = 0;
  for (std::size_t i = 0; code == 0 && i < matches.gl_pathc; ++i) {
    std::error_code ignored;
    const fs::file_type type = fs::status(matches.gl_pathv[i], ignored).type();
    if (type == fs::file_type::directory) {
      ++folders;
      continue;
    }
    auto& list = type == fs::file_type::regular ? found.files : found.others;
    list.emplace_back(matches.gl_pathv[i]);
  }
  ::globfree(&matches);
  if (found.files.empty()) {
    found.problem = folders == 0 ? "no file fits the pattern"
                                 : "no file fits the pattern, only folders: name what is in them";
  }
  return found;
}

std::string folder_problem(const std::string& path) {
  std::error_code error;
  const fs::directory_iterator entries(path, error);
  if (error) return error.message();
  const bool any_file = std::any_of(begin(entries), end(entries), [&](const auto& entry) {
    return entry.is_regular_file(error);
  });
  return any_file ? "" : "the folder holds no file that can be read";
}

}  // namespace

std::string file_problem(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const std::string reason = error.message();
  const char* kind = nullptr;
  switch (status.type()) {
    case fs::file_type::regular:
      return ::access(path.c_str(), R_OK) == 0 ? "" : std::strerror(errno);
    case fs::file_type::directory:
      return "is a folder, not a file";
    case fs::file_type::not_found:
      if (fs::is_symlink(fs::symlink_status(path, error))) {
        return "is a link to a file that is not there";
      }
      if (path.starts_with("/dev/fd/")) {
        return "No such file or directory; what a shell makes of <(...) is a pipe of its own: "
               "write the data into a file first";
      }
      return reason;
    case fs::file_type::fifo:
      kind = "a pipe";
      break;
    case fs::file_type::socket:
      kind = "a socket";
      break;
    case fs::file_type::block:
    case fs::file_type::character:
      return "is a device, not a file";
    default:
      return error ? reason : "is neither a file nor a folder";
  }
  return cat("is ", kind, ", which can be read only once; write it into a file first");
}

std::string example_problem(const std::string& example) {
  std::error_code ignored;
  return fs::is_directory(example, ignored) ? "" : file_problem(example);
}

DataLook look_for_data(const std::string& path) {
  const NamedData named = find_named_data(path);
  if (named.is_folder) return {folder_problem(path), path};
  return {named.problem, named.files.empty() ? path : named.files.front()};
}

NamedData find_named_data(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return {true, {}, {}, ""};
  const bool is_name = path.find_first_of(kPatternCharacters) == std::string::npos ||
                       fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
  if (is_name) {
    const std::string problem = file_problem(path);
    return {false, problem.empty() ? std::vector{path} : std::vector<std::string>{}, {}, problem};
  }
  return what_fits(path);
}

}  // namespace koios
