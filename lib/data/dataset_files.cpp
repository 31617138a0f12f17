#include "data/dataset_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "config/named_data.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/random.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

std::string name_of(const std::string& path) { return fs::path(path).filename().string(); }

[[noreturn]] void refuse_folder(const std::string& folder, const RecordFormat& format,
                                bool has_tables) {
  if (has_tables) {
    throw UserError(cat(folder, ": a folder of Parquet or Arrow tables; ",
                        "tools/get_dataset.py convert makes JSON lines of it"));
  }
  std::string wanted;
  for (const auto extension : format.extensions) {
    wanted += cat(wanted.empty() ? "*" : ", *", extension);
  }
  throw UserError(cat(folder, ": a folder without ", wanted, " (or packed: .gz, .zst, .xz, .tar) ",
                      "for format ", format.name, "; files of another name can be given as a ",
                      "glob: '", folder, "/*'"));
}

bool has_wanted_files(const std::string& folder, const RecordFormat& format) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code not_followed;
    if (wants_file(format, entry->path().filename().string()) &&
        entry->is_regular_file(not_followed)) {
      return true;
    }
  }
  return false;
}

/// The first few of `names`, and how many there are besides.
std::string some_of(std::vector<std::string> names) {
  constexpr std::size_t kNamed = 3;
  std::ranges::sort(names);
  std::string text;
  for (std::size_t i = 0; i < std::min(kNamed, names.size()); ++i) {
    text += cat(i > 0 ? ", " : "", name_of(names[i]));
  }
  return names.size() > kNamed ? cat(text, " and ", names.size() - kNamed, " more") : text;
}

/// What may be meant, and may be a mistake that costs data or repeats it.
void note_doubts(BadData& bad, const std::string& folder, const std::vector<std::string>& files,
                 const std::vector<std::string>& subfolders) {
  if (!subfolders.empty()) {
    bad.note(cat(folder, ": the files in its subfolders (", some_of(subfolders),
                 ") are not read, only those directly in it"));
  }
  std::set<std::string> unpacked;  // names that packed files would have
  for (const std::string_view file : files) {
    for (const std::string_view extension : {".gz", ".zst", ".xz"}) {
      if (file.ends_with(extension)) unpacked.emplace(file, 0, file.size() - extension.size());
    }
  }
  std::vector<std::string> twice;
  if (!unpacked.empty()) {
    std::ranges::copy_if(files, std::back_inserter(twice),
                         [&](const std::string& file) { return unpacked.contains(file); });
  }
  if (!twice.empty()) {
    bad.note(cat(folder, ": ", some_of(twice), twice.size() == 1 ? " is" : " are",
                 " there packed and unpacked; both are read, so that the same text comes twice"));
  }
}

std::vector<std::string> files_of_folder(const std::string& folder, const RecordFormat& format,
                                         BadData* bad) {
  std::vector<std::string> files;
  std::vector<std::string> subfolders;  // that hold such files, too
  bool has_tables = false;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path().string();
    const std::string extension = entry->path().extension().string();
    has_tables = has_tables || extension == ".parquet" || extension == ".arrow";
    std::error_code not_followed;
    const bool is_file = entry->is_regular_file(not_followed);  // mostly known without asking
    if (!is_file && entry->is_directory(not_followed) && has_wanted_files(path, format)) {
      subfolders.push_back(path);
    }
    if (!wants_file(format, entry->path().filename().string())) continue;
    if (is_file) {
      files.push_back(path);
    } else if (entry->status(not_followed).type() == fs::file_type::not_found) {
      tell_bad(bad, cat(path, ": is a link to a file that is not there"));
    } else if (not_followed) {
      tell_bad(bad, cat(path, ": cannot be looked at: ", not_followed.message()));
    } else if (!entry->is_directory(not_followed)) {
      tell_bad(bad, cat(path, ": ", file_problem(path)));
    }
  }
  if (error) throw UserError(cat(folder, ": ", error.message()));
  if (files.empty()) refuse_folder(folder, format, has_tables);
  if (bad != nullptr) note_doubts(*bad, folder, files, subfolders);
  return files;
}

/// c4 is published with both parts in one folder, c4-train.* and c4-validation.*. Where it is there
/// with one alone, that must not be taken for the other: no loss of validation from training data.
void keep_split(const std::string& folder, std::vector<std::string>& files, DataSplit split) {
  const auto is_of = [](std::string_view part) {
    return [=](const std::string& file) { return name_of(file).starts_with(part); };
  };
  std::string_view wanted = "c4-train.";
  std::string_view other = "c4-validation.";
  if (split == DataSplit::validation) std::swap(wanted, other);
  if (std::ranges::any_of(files, is_of(wanted))) {
    std::erase_if(files, std::not_fn(is_of(wanted)));
  } else if (std::ranges::any_of(files, is_of(other))) {
    throw UserError(cat(folder, ": a folder of c4 without ", wanted, "*, only ", other,
                        "*; to use those all the same, name them by a glob: '", folder, "/", other,
                        "*'"));
  }
}

/// Of names like c4-train.00003-of-01024.json.gz every number must be there.
void require_all_shards(const std::string& folder, const std::vector<std::string>& files,
                        BadData* bad) {
  struct Series {
    std::vector<bool> has;
    std::string first;
    std::size_t number_at = 0;
  };
  std::map<std::string, Series> all;
  for (const std::string& file : files) {
    const std::string name = name_of(file);
    const auto of = name.find("-of-");
    if (of == std::string::npos || of < 5 || name.size() < of + 9) continue;
    std::size_t number = 0;
    std::size_t count = 0;
    const char* text = name.data();
    const auto left = std::from_chars(text + of - 5, text + of, number);
    const auto right = std::from_chars(text + of + 4, text + of + 9, count);
    const bool fits = left.ptr == text + of && right.ptr == text + of + 9 && number < count;
    if (!fits) continue;
    Series& series = all[name.substr(0, of - 5) + name.substr(of)];
    series.has.resize(count);
    series.has[number] = true;
    if (series.first.empty()) series = {std::move(series.has), name, of - 5};
  }
  for (const auto& [key, series] : all) {
    const auto missing = std::ranges::count(series.has, false);
    if (missing == 0) continue;
    const auto first = std::ranges::find(series.has, false) - series.has.begin();
    std::string name = series.first;
    name.replace(series.number_at, 5, fmt::format("{:05}", first));
    std::string pattern = series.first;
    pattern.replace(series.number_at, 5, "*");
    tell_bad(
        bad,
        cat(folder, ": ", missing, " of ", series.has.size(), " files are missing, first ", name,
            "; to use those that are there, name them by a glob: '", folder, "/", pattern, "'"));
  }
}

}  // namespace

std::vector<std::string> find_dataset_files(const std::string& path, DataFormat format,
                                            DataSplit split, BadData* bad) {
  if (path.empty()) throw UserError("no data: training/dataset_path is a file, a folder or a glob");
  NamedData named = find_named_data(path);
  if (!named.problem.empty()) throw UserError(cat(path, ": ", named.problem));
  for (const std::string& other : named.others) {
    tell_bad(bad, cat(other, ": ", file_problem(other)));
  }
  std::vector<std::string> files = std::move(named.files);
  if (named.is_folder) {
    files = files_of_folder(path, record_format(format), bad);
    if (format == DataFormat::c4) keep_split(path, files, split);
  }
  std::ranges::sort(files);
  if (named.is_folder) require_all_shards(path, files, bad);
  for (const std::string& file : files) {
    if (fs::file_size(file) == 0) tell_bad(bad, cat(file, ": is empty (0 bytes)"));
  }
  return files;
}

std::uint64_t files_fingerprint(const std::vector<std::string>& files,
                                std::vector<std::int64_t>* sizes) {
  constexpr std::int64_t kSample = 4096;
  std::array<char, 2 * kSample> sample{};
  const auto bytes = std::as_writable_bytes(std::span(sample));
  std::uint64_t sum = 0;
  for (const std::string& file : files) {
    const FileDescriptor in(::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    struct stat status = {};
    if (!in || ::fstat(in.get(), &status) != 0) {
      throw UserError(cat(file, ": may not be read: ", std::strerror(errno)));
    }
    const std::int64_t size = status.st_size;
    if (sizes != nullptr) sizes->push_back(size);
    const std::int64_t first = std::min(kSample, size);
    const std::int64_t last = std::min(kSample, size - first);
    std::int64_t count = files::read_at(in.get(), 0, bytes.first(first));
    if (last > 0 && count == first) {
      count += files::read_at(in.get(), size - last, bytes.subspan(kSample, last));
    }
    sum = mix64(sum + stream_of(std::string_view(file).substr(file.rfind('/') + 1)));
    sum = mix64(sum + static_cast<std::uint64_t>(size));
    // Of 8 KiB, zeros where the file is shorter.
    const auto there = static_cast<std::size_t>(count);
    sum = mix64(sum + stream_of_longer(stream_of({sample.data(), there}), sample.size() - there));
  }
  return sum;
}

namespace {

/// At most so many, the first among them.
std::vector<std::string> spread_over(const std::vector<std::string>& files) {
  constexpr std::size_t kMost = 256;
  const std::size_t every = (files.size() + kMost - 1) / kMost;
  std::vector<std::string> some;
  for (std::size_t i = 0; i < files.size(); i += every) some.push_back(files[i]);
  return some;
}

}  // namespace

DatasetFiles find_shared_files(const std::string& path, DataFormat format, DataSplit split,
                               BadData* bad, const RankGroup* ranks) {
  DatasetFiles found;
  const auto find = [&] {
    found.files = find_dataset_files(path, format, split, bad);
    found.fingerprint = files_fingerprint(found.files, &found.sizes);
  };
  if (ranks == nullptr || ranks->size() == 1) {
    find();
    return found;
  }
  std::string problem;
  if (ranks->rank() == 0) {
    try {
      find();
    } catch (const UserError& error) {
      problem = error.what();
    }
  }
  problem = ranks->broadcast(problem);
  if (!problem.empty()) throw UserError(problem);
  std::string message;  // names and sizes; a path has no zero byte
  for (std::size_t i = 0; i < found.files.size(); ++i) {
    message += cat(found.files[i], '\0', found.sizes[i], '\0');
  }
  message = ranks->broadcast(message);
  if (ranks->rank() > 0) {
    std::istringstream in(message);
    std::string size;
    for (std::string file; std::getline(in, file, '\0') && std::getline(in, size, '\0');) {
      found.files.push_back(file);
      found.sizes.push_back(std::stoll(size));
    }
  }
  // A rank that looks at the same bytes as rank 0 has the same data.
  std::uint64_t seen = 0;
  try {
    seen = files_fingerprint(spread_over(found.files));
  } catch (const UserError& error) {
    throw UserError(
        cat(error.what(), " on ", ranks->host(), "; rank 0 sees it, and all ranks must"));
  }
  const std::string of_root = ranks->broadcast(cat(found.fingerprint, " ", seen));
  const std::size_t space = of_root.find(' ');
  found.fingerprint = std::stoull(of_root.substr(0, space));
  if (std::stoull(of_root.substr(space + 1)) != seen) found.fingerprint ^= mix64(seen);
  return found;
}

}  // namespace koios
