#include "kernels/detail/gemm_choices.hpp"

#include <fcntl.h>

#include <cerrno>
#include <iomanip>
#include <sstream>
#include <utility>

#include "core/error.hpp"
#include "core/log.hpp"
#include "runtime/file.hpp"

namespace koios::detail {
namespace {

constexpr const char* kFormat = "koios-gemm-1";
constexpr std::int64_t kMostBytes = std::int64_t{16} << 20;  // thousands of products

}  // namespace

std::string to_string(const GemmKey& key) {
  std::ostringstream out;
  out << "m=" << key.m << " n=" << key.n << " k=" << key.k << " lda=" << key.lda
      << " ldb=" << key.ldb << " ldd=" << key.ldd << " a=" << (key.transpose_a ? 't' : 'n')
      << " b=" << (key.transpose_b ? 't' : 'n') << " beta=" << (key.accumulate ? 1 : 0)
      << " in=" << to_string(key.input_a) << " out=" << to_string(key.output)
      << " align=" << key.alignment_a << ',' << key.alignment_b << ',' << key.alignment_d;
  if (key.batch != 1) {
    out << " batch=" << key.batch << " strides=" << key.stride_a << ',' << key.stride_b << ','
        << key.stride_d;
  }
  if (size_of(key.input_a) == 1) {
    out << " b=" << to_string(key.input_b) << " scales=" << static_cast<int>(key.scale_a) << ','
        << static_cast<int>(key.scale_b) << " fast=" << (key.fast_accumulation ? 1 : 0);
  }
  return out.str();
}

GemmChoices::GemmChoices(std::string file, std::string environment)
    : file_(std::move(file)), environment_(std::move(environment)) {
  if (!file_.empty()) load();
}

void GemmChoices::load() {
  std::istringstream in(files::read_whole(file_, kMostBytes).value_or(""));
  for (std::string line; std::getline(in, line);) {
    // koios-gemm-1 <environment> | <key> | <8 hexadecimal words>
    const auto first = line.find(" | ");
    const auto second = line.find(" | ", first + 1);
    if (second == std::string::npos || line.substr(0, first) != cat(kFormat, ' ', environment_)) {
      continue;
    }
    GemmAlgorithm algorithm;
    std::istringstream words(line.substr(second + 3));
    for (auto& word : algorithm) words >> std::hex >> word;
    if (words) of_key_.emplace(line.substr(first + 3, second - first - 3), algorithm);
  }
}

std::optional<GemmAlgorithm> GemmChoices::find(const GemmKey& key) const {
  const auto found = of_key_.find(to_string(key));
  if (found == of_key_.end()) return std::nullopt;
  return found->second;
}

void GemmChoices::add(const GemmKey& key, const GemmAlgorithm& algorithm) {
  of_key_[to_string(key)] = algorithm;
  if (file_.empty()) return;
  std::ostringstream line;
  line << kFormat << ' ' << environment_ << " | " << to_string(key) << " |";
  for (const auto word : algorithm) line << ' ' << std::hex << word;
  line << '\n';
  std::string problem;
  try {
    const FileDescriptor out = files::open_or_create(file_, O_APPEND);
    if (!files::write_all(out.get(), line.str())) problem = files::reason(errno, out.get());
  } catch (const UserError& error) {
    problem = error.what();
  }
  if (problem.empty()) return;
  log::warning("cannot write the GEMM choices to ", file_, " (", problem,
               "): they will be made anew next time");
  file_.clear();
}

}  // namespace koios::detail
