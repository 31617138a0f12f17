// Which algorithm was chosen for which matrix product, in memory and in a text file: one line for
// each, appended in one write, so that the ranks of a job can share the file. Lines of another
// library version or GPU are passed over; of two lines for one product the first holds.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "core/dtype.hpp"
#include "kernels/gemm.hpp"

namespace koios::detail {

/// All that a choice depends on, in cuBLASLt's column-major terms: d[m, n] = op(a) op(b).
struct GemmKey {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t lda = 0, ldb = 0, ldd = 0;
  std::int64_t stride_a = 0, stride_b = 0, stride_d = 0, batch = 1;
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;
  DType input_a = DType::float32, input_b = DType::float32, output = DType::float32;
  Fp8ScaleKind scale_a = Fp8ScaleKind::matrix, scale_b = Fp8ScaleKind::matrix;
  bool fast_accumulation = false;
  int alignment_a = 0, alignment_b = 0, alignment_d = 0;  // bytes

  auto operator<=>(const GemmKey&) const = default;
};

std::string to_string(const GemmKey& key);

/// cublasLtMatmulAlgo_t, which NVIDIA allows to be stored for the same version of the library.
using GemmAlgorithm = std::array<std::uint64_t, 8>;

class GemmChoices {
 public:
  /// file: empty for none; it need not be there yet. environment: library version and GPU, without
  /// spaces. more: a file that is read after it, and has to be there; empty for none.
  GemmChoices(std::string file, std::string environment, const std::string& more = "");

  std::optional<GemmAlgorithm> find(const GemmKey& key) const;
  /// Remembers the choice and appends it to the file.
  void add(const GemmKey& key, const GemmAlgorithm& algorithm);

 private:
  void load(const std::string& text);

  std::string file_;
  std::string environment_;
  std::map<std::string, GemmAlgorithm> of_key_;
};

}  // namespace koios::detail
