#include "data/tokenize_corpus.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <vector>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/log.hpp"
#include "core/random.hpp"
#include "core/readable.hpp"
#include "core/stopwatch.hpp"
#include "data/corpus_units.hpp"
#include "data/dataset_files.hpp"
#include "data/same_data.hpp"
#include "data/token_parts.hpp"
#include "data/token_stream.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

constexpr double kProgressSeconds = 5;

std::string one_decimal(double value) { return fmt::format("{:.1f}", value); }

/// One job on one rank. Where ranks must wait for each other, all_gather() lets them.
class TokenizeJob {
 public:
  TokenizeJob(const TokenizeOptions& options, const Tokenizer& tokenizer, const MpiEnv& mpi);

  TokenFileHeader run();

 private:
  bool is_root() const { return mpi_.rank() == 0; }
  void barrier() const { mpi_.all_gather(""); }
  std::string part_path(std::size_t unit) const { return cat(folder_, "/", unit, ".part"); }

  void lock();
  void plan();
  std::string saved_plan() const;
  void save_plan() const;
  void remove_parts() const;
  void tokenize_units();
  TokenPart tokenize_unit(std::size_t unit);
  void tell_progress();
  std::vector<TokenPart> gather_parts() const;
  [[noreturn]] void refuse_empty() const;
  TokenFileHeader assemble();

  const TokenizeOptions& options_;
  const Tokenizer& tokenizer_;
  const MpiEnv& mpi_;
  std::string folder_;
  std::string lock_path_;
  FileDescriptor lock_;  // of rank 0
  DatasetFiles found_;
  const std::vector<std::string>& files_ = found_.files;
  std::uint64_t job_ = 0;
  TokenFileHeader header_;
  std::vector<CorpusUnit> units_;
  std::vector<std::pair<std::size_t, TokenPart>> mine_;  // by their unit
  std::int64_t all_bytes_ = 0;
  std::int64_t bytes_before_ = 0;  // in parts that an earlier run has left
  Stopwatch clock_;
  double told_at_s_ = 0;
};

TokenizeJob::TokenizeJob(const TokenizeOptions& options, const Tokenizer& tokenizer,
                         const MpiEnv& mpi)
    : options_(options),
      tokenizer_(tokenizer),
      mpi_(mpi),
      folder_(options.output + ".parts"),
      lock_path_(options.output + ".lock"),
      found_(find_shared_files(options.path, options.format, DataSplit::training, options.bad_data,
                               &mpi)) {
  header_.token_bytes = tokenizer.vocab_size() <= (1 << 16) ? 2 : 4;
  header_.tokenizer_hash = tokenizer.hash();
  header_.vocab_size = tokenizer.vocab_size();
  if (options.marks.bos) header_.bos = tokenizer.bos();
  if (options.marks.eos) header_.eos = tokenizer.eos();
  job_ = stream_of(to_string(options.format)) + found_.fingerprint;
  for (const std::uint64_t part :
       {header_.tokenizer_hash, std::uint64_t{options.marks.bos}, std::uint64_t{options.marks.eos},
        std::uint64_t{options.bad_data != nullptr && options.bad_data->skips()}}) {
    job_ = mix64(job_ + part + 1);
  }
}

TokenFileHeader TokenizeJob::run() {
  if (is_root()) lock();
  plan();
  tokenize_units();
  return assemble();
}

/// Two jobs at once would write into each other's files. A job that was killed leaves the file, but
/// not the lock.
void TokenizeJob::lock() {
  if (const auto parent = fs::path(lock_path_).parent_path(); !parent.empty()) {
    fs::create_directories(parent);
  }
  files::require_own_folder(folder_);
  lock_ = files::open_or_create(lock_path_);
  struct flock all {};
  all.l_type = F_WRLCK;
  const bool is_locked = ::fcntl(lock_.get(), F_SETLK, &all) == 0;  // not every file system can
  if (!is_locked && (errno == EACCES || errno == EAGAIN)) {
    throw UserError(cat(options_.output, ": another koios-tokenize is at work on it"));
  }
  if (fs::exists(options_.output)) {
    throw UserError(cat(options_.output, ": was made meanwhile by another koios-tokenize"));
  }
}

/// The plan of an earlier run of this very job; empty where there is none, or not all of it.
std::string TokenizeJob::saved_plan() const {
  constexpr std::int64_t kMostBytes = std::int64_t{4} << 30;
  std::istringstream file(files::read_whole(folder_ + "/plan", kMostBytes).value_or(""));
  std::uint64_t job = 0;
  std::size_t units = 0;
  if (!(file >> job >> units) || job != job_) return "";
  const std::string plan{std::istreambuf_iterator<char>(file), {}};
  return units_from_text(plan).size() == units ? plan : "";
}

void TokenizeJob::save_plan() const {
  remove_parts();
  fs::create_directories(folder_);
  files::replace(folder_ + "/plan", cat(job_, ' ', units_.size(), "\n", to_text(units_)));
}

/// Of an earlier run. A folder with anything else in it is not touched.
void TokenizeJob::remove_parts() const {
  if (!fs::exists(folder_)) return;
  const auto is_ours = [](const fs::path& file) {
    return file.filename() == "plan" || file.extension() == ".part" ||
           file.extension() == ".unfinished" || file.filename() == "plan.partial";
  };
  if (!std::all_of(fs::directory_iterator(folder_), {}, is_ours)) {
    throw UserError(
        cat(folder_, ": is needed for parts, but holds something else; name another ", "--output"));
  }
  fs::remove_all(folder_);
}

void TokenizeJob::plan() {
  require_same_data(job_, mpi_);
  const std::string saved = mpi_.broadcast(is_root() ? saved_plan() : "");
  if (!saved.empty()) {
    units_ = units_from_text(saved);
  } else {
    std::vector<CorpusUnit> mine;
    for (std::int64_t file = mpi_.rank(); file < std::ssize(files_); file += mpi_.size()) {
      std::ranges::copy(cut_file(options_.format, files_, file,
                                 found_.sizes[static_cast<std::size_t>(file)], options_.bad_data),
                        std::back_inserter(mine));
    }
    for (const std::string& text : mpi_.all_gather(to_text(mine))) {
      for (const CorpusUnit& unit : units_from_text(text)) units_.push_back(unit);
    }
    std::ranges::stable_sort(units_, {}, &CorpusUnit::file);
    units_ = group_small_files(units_);
    if (is_root()) save_plan();
  }
  barrier();  // the folder is there for every rank
  for (const CorpusUnit& unit : units_) all_bytes_ += unit.bytes;
  log::info(counted(std::ssize(files_), "file"), ", ",
            one_decimal(static_cast<double>(all_bytes_) / 1e6), " MB, in ",
            counted(std::ssize(units_), "part"), " by ", counted(mpi_.size(), "rank"),
            saved.empty() ? "" : "; what an earlier run has left is kept");
}

TokenPart TokenizeJob::tokenize_unit(std::size_t number) {
  const CorpusUnit& unit = units_[number];
  const auto first = files_.begin() + unit.file;
  RecordReader reader(options_.format, {first, first + unit.files}, options_.bad_data);
  reader.seek(unit.begin);
  TokenPartWriter part(part_path(number), job_, header_.token_bytes);
  Document document;
  while ((unit.end_record < 0 || reader.mark().record < unit.end_record) && reader.next(document)) {
    if (document.is_bad) continue;
    const auto tokens = encode_or_tell(tokenizer_, options_.marks, document, options_.bad_data);
    if (tokens) part.add(*tokens);
    if (is_root()) tell_progress();
  }
  return part.finish();
}

void TokenizeJob::tokenize_units() {
  const auto size = static_cast<std::size_t>(mpi_.size());
  for (auto unit = static_cast<std::size_t>(mpi_.rank()); unit < units_.size(); unit += size) {
    if (const auto part = find_part(part_path(unit), job_)) mine_.emplace_back(unit, *part);
  }
  if (is_root()) {
    for (std::size_t unit = 0; unit < units_.size(); ++unit) {
      if (fs::exists(part_path(unit))) bytes_before_ += units_[unit].bytes;
    }
  }
  const std::size_t kept = mine_.size();
  std::size_t next_kept = 0;
  for (auto unit = static_cast<std::size_t>(mpi_.rank()); unit < units_.size(); unit += size) {
    if (next_kept < kept && mine_[next_kept].first == unit) {
      ++next_kept;
      continue;
    }
    mine_.emplace_back(unit, tokenize_unit(unit));
  }
}

/// Counts the parts that are there, of whatever rank.
void TokenizeJob::tell_progress() {
  const double now_s = clock_.seconds();
  if (now_s < told_at_s_ + kProgressSeconds) return;
  told_at_s_ = now_s;
  std::int64_t bytes = 0;
  for (std::size_t unit = 0; unit < units_.size(); ++unit) {
    if (fs::exists(part_path(unit))) bytes += units_[unit].bytes;
  }
  const double rate = static_cast<double>(bytes - bytes_before_) / now_s;
  const double part = static_cast<double>(bytes) / static_cast<double>(all_bytes_);
  log::info("tokenized ", one_decimal(100 * part), "%, ", one_decimal(rate / 1e6), " MB/s",
            rate > 0
                ? cat(", ", one_decimal(static_cast<double>(all_bytes_ - bytes) / rate), " s to go")
                : "");
}

/// Of all units, from the ranks that have made them.
std::vector<TokenPart> TokenizeJob::gather_parts() const {
  std::string text;
  for (const auto& [unit, part] : mine_) {
    text += cat(unit, " ", part.tokens, " ", part.documents, "\n");
  }
  std::vector<TokenPart> parts(units_.size());
  for (const std::string& of_rank : mpi_.all_gather(text)) {
    std::istringstream in(of_rank);
    TokenPart part{job_, 0, 0};
    for (std::size_t unit = 0; in >> unit >> part.tokens >> part.documents;) parts[unit] = part;
  }
  return parts;
}

void TokenizeJob::refuse_empty() const {
  const BadData* bad = options_.bad_data;
  std::string example;
  for (const std::string& of_rank : mpi_.all_gather(bad == nullptr ? "" : bad->for_example(0))) {
    if (example.empty()) example = of_rank;
  }
  throw UserError(cat(options_.path, ": no documents in ", counted(std::ssize(files_), "file"),
                      " (format ", to_string(options_.format), ")",
                      example.empty() ? "" : " that can be used", example));
}

TokenFileHeader TokenizeJob::assemble() {
  std::vector<std::string> paths;
  for (std::size_t unit = 0; unit < units_.size(); ++unit) paths.push_back(part_path(unit));
  TokenFileAssembly assembly(options_.output, header_, paths, gather_parts());
  if (assembly.header().tokens == 0) refuse_empty();
  if (is_root()) assembly.create();
  barrier();
  for (const auto& [unit, part] : mine_) assembly.copy_part(unit);
  barrier();
  assembly.write_checksums(mpi_.rank(), mpi_.size());
  // Who is stopped from here on is done: the same command would find the file.
  if (options_.signals != nullptr) options_.signals->hold_stops();
  barrier();
  if (is_root()) {
    assembly.finish();
    remove_parts();
    fs::remove(lock_path_);
    const double seconds = clock_.seconds();
    log::info(options_.output, ": ", assembly.header().tokens, " tokens of ",
              counted(assembly.header().documents, "document"), ", ", header_.token_bytes,
              " bytes each, in ", one_decimal(seconds), " s (",
              one_decimal(static_cast<double>(all_bytes_ - bytes_before_) / 1e6 / seconds),
              " MB/s)");
  }
  barrier();
  return assembly.header();
}

}  // namespace

TokenFileHeader tokenize_corpus(const TokenizeOptions& options, const Tokenizer& tokenizer,
                                const MpiEnv& mpi) {
  if (options.output.ends_with('/') || fs::is_directory(options.output)) {
    throw UserError(
        cat(options.output, ": is the name of a folder; --output takes that of the file ",
            "to be made, such as ", (fs::path(options.output) / "books.tokens").string()));
  }
  if (fs::exists(options.output)) {
    throw UserError(cat(options.output, ": is there already; remove it, or name another --output"));
  }
  return TokenizeJob(options, tokenizer, mpi).run();
}

}  // namespace koios
