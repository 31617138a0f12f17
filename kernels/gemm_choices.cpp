#include "kernels/detail/gemm_choices.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
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
  std::string text = fmt::format(
      "m={} n={} k={} lda={} ldb={} ldd={} a={} b={} beta={} in={} out={} align={},{},{}", key.m,
      key.n, key.k, key.lda, key.ldb, key.ldd, key.transpose_a ? 't' : 'n',
      key.transpose_b ? 't' : 'n', key.accumulate ? 1 : 0, to_string(key.input_a),
      to_string(key.output), key.alignment_a, key.alignment_b, key.alignment_d);
  if (key.batch != 1) {
    text += fmt::format(" batch={} strides={},{},{}", key.batch, key.stride_a, key.stride_b,
                        key.stride_d);
  }
  if (size_of(key.input_a) == 1) {
    text += fmt::format(" b={} scales={},{} fast={}", to_string(key.input_b),
                        static_cast<int>(key.scale_a), static_cast<int>(key.scale_b),
                        key.fast_accumulation ? 1 : 0);
  }
  return text;
}

GemmChoices::GemmChoices(std::string file, std::string environment, const std::string& more)
    : file_(std::move(file)), environment_(std::move(environment)) {
  if (!file_.empty()) load(files::read_whole(file_, kMostBytes).value_or(""));
  if (more.empty()) return;
  const std::optional<std::string> text = files::read_whole(more, kMostBytes);
  if (!text) throw UserError(cat("[job] gemm_choices = ", more, ": cannot be read"));
  load(*text);
}

void GemmChoices::load(const std::string& text) {
  std::istringstream in(text);
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
  const std::string line = fmt::format("{} {} | {} | {:x}\n", kFormat, environment_, to_string(key),
                                       fmt::join(algorithm, " "));
  std::string problem;
  try {
    const FileDescriptor out = files::open_or_create(file_, O_APPEND);
    if (!files::write_all(out.get(), line)) problem = files::reason(errno, out.get());
  } catch (const UserError& error) {
    problem = error.what();
  }
  if (problem.empty()) return;
  log::warning("cannot write the GEMM choices to ", file_, " (", problem,
               "): they will be made anew next time");
  file_.clear();
}

}  // namespace koios::detail
