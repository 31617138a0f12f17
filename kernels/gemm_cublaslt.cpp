#include "kernels/detail/gemm_cublaslt.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "core/integers.hpp"
#include "core/log.hpp"
#include "kernels/detail/check_cublas.hpp"
#include "kernels/fp8.hpp"
#include "runtime/check_cuda.hpp"

namespace koios::detail {
namespace {

constexpr int kMaxCandidates = 32;
constexpr int kFinalists = 5;
constexpr int kFinalRounds = 4;
/// A training GPU is at its power limit and runs at two thirds of its clock, where other algorithms
/// win than on a cold card. Finalists are timed there: after heating, in turns of this length.
constexpr double kTurnMs = 6;
constexpr double kHeatMs = 400;    // before the first choice of a process
constexpr double kKeepHotMs = 50;  // before the others, which follow within milliseconds
/// A candidate this much slower than the best one in the first round is out.
constexpr double kHopeless = 1.25;
/// Below this a product takes microseconds, and the first choice is as good as any.
constexpr double kWorthTiming = 1e8;  // flop

void close_desc(cublasLtMatmulDesc_t desc) { cublasLtMatmulDescDestroy(desc); }
void close_layout(cublasLtMatrixLayout_t layout) { cublasLtMatrixLayoutDestroy(layout); }
void close_preference(cublasLtMatmulPreference_t p) { cublasLtMatmulPreferenceDestroy(p); }
void close_event(cudaEvent_t event) { cudaEventDestroy(event); }
using MatmulDesc = Handle<cublasLtMatmulDesc_t, &close_desc>;
using MatrixLayout = Handle<cublasLtMatrixLayout_t, &close_layout>;
using Preference = Handle<cublasLtMatmulPreference_t, &close_preference>;
using CudaEvent = Handle<cudaEvent_t, &close_event>;

cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

cudaDataType_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return CUDA_R_32F;
    case DType::bfloat16:
      return CUDA_R_16BF;
    case DType::float8_e4m3:
      return CUDA_R_8F_E4M3;
    case DType::float8_e5m2:
      return CUDA_R_8F_E5M2;
    default:
      KOIOS_REQUIRE(false, "matrix products of ", to_string(dtype));
      return CUDA_R_32F;
  }
}

cublasLtMatmulMatrixScale_t scale_mode(Fp8ScaleKind kind) {
  switch (kind) {
    case Fp8ScaleKind::matrix:
      return CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
    case Fp8ScaleKind::row:
      return CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    case Fp8ScaleKind::piece:
      return CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
    case Fp8ScaleKind::square:
      return CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
  }
  KOIOS_REQUIRE(false, "unknown kind of scale");
}

/// The largest power of two up to 256 that divides an address.
int alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data) | 256;
  return static_cast<int>(address & (~address + 1));
}

/// "cublasLt-130100/NVIDIA_H200": what stored choices hold for.
std::string environment() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  std::string gpu = properties.name;
  std::replace(gpu.begin(), gpu.end(), ' ', '_');
  return cat("cublasLt-", cublasLtGetVersion(), '/', gpu);
}

CublasLtHandle open_cublaslt() {
  cublasLtHandle_t handle = nullptr;
  check_cublas(cublasLtCreate(&handle), "cublasLtCreate");
  return CublasLtHandle(handle);
}

/// A row-major matrix is its transpose in column-major terms, so c = op(a) op(b) is computed as
/// c^T = op(b)^T op(a)^T: cuBLASLt's a is our b, and its b our a.
GemmKey key_of(const Gemm& gemm) {
  const Matrix& a = gemm.b.matrix;
  const Matrix& b = gemm.a.matrix;
  const Matrix& d = gemm.c.matrix;
  return {.m = d.columns,
          .n = d.rows,
          .k = gemm.a.transposed ? gemm.a.matrix.rows : gemm.a.matrix.columns,
          .lda = a.pitch,
          .ldb = b.pitch,
          .ldd = d.pitch,
          .stride_a = gemm.b.stride,
          .stride_b = gemm.a.stride,
          .stride_d = gemm.c.stride,
          .batch = gemm.batch,
          .transpose_a = gemm.b.transposed,
          .transpose_b = gemm.a.transposed,
          .accumulate = gemm.accumulate,
          .input_a = a.dtype,
          .input_b = b.dtype,
          .output = d.dtype,
          .scale_a = gemm.b.scale.kind,
          .scale_b = gemm.a.scale.kind,
          .fast_accumulation = gemm.fast_accumulation,
          .alignment_a = alignment_of(a.data),
          .alignment_b = alignment_of(b.data),
          .alignment_d = alignment_of(d.data)};
}

template <class Value>
void set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, Value value) {
  check_cublas(cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof(value)),
               "cublasLtMatmulDescSetAttribute");
}

template <class Value>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         Value value) {
  check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
               "cublasLtMatmulPreferenceSetAttribute");
}

MatmulDesc make_desc(const GemmKey& key) {
  cublasLtMatmulDesc_t raw = nullptr;
  check_cublas(cublasLtMatmulDescCreate(&raw, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "cublasLtMatmulDescCreate");
  MatmulDesc desc(raw);
  set(raw, CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(raw, CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (size_of(key.input_a) == 1) {
    set(raw, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, static_cast<std::int32_t>(scale_mode(key.scale_a)));
    set(raw, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, static_cast<std::int32_t>(scale_mode(key.scale_b)));
    set(raw, CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<std::int8_t>(key.fast_accumulation));
  }
  return desc;
}

/// Where the scales lie: said before the choice, too, which asks for it with vectors of scales.
void point_to_scales(cublasLtMatmulDesc_t desc, const Gemm& gemm) {
  if (gemm.a.scale.data == nullptr) return;
  set(desc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, gemm.b.scale.data);
  set(desc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, gemm.a.scale.data);
}

MatrixLayout make_layout(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t ld,
                         std::int64_t batch, std::int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_cublas(cublasLtMatrixLayoutCreate(&layout, cuda_type(dtype), rows, columns, ld),
               "cublasLtMatrixLayoutCreate");
  MatrixLayout owner(layout);
  if (batch > 1) {
    const auto count = static_cast<std::int32_t>(batch);
    check_cublas(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                  &count, sizeof(count)),
                 "cublasLtMatrixLayoutSetAttribute");
    check_cublas(cublasLtMatrixLayoutSetAttribute(
                     layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride)),
                 "cublasLtMatrixLayoutSetAttribute");
  }
  return owner;
}

CudaEvent make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  return CudaEvent(event);
}

/// Device memory in the order of a stream, so that nothing else on the device has to come to rest.
class TemporaryMemory {
 public:
  TemporaryMemory(cudaStream_t stream, std::size_t bytes) : stream_(stream) {
    if (cudaMallocAsync(&data_, bytes, stream) != cudaSuccess) {
      cudaGetLastError();
      data_ = nullptr;
    }
  }
  TemporaryMemory(const TemporaryMemory&) = delete;
  TemporaryMemory& operator=(const TemporaryMemory&) = delete;
  ~TemporaryMemory() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
  }
  /// nullptr where there was no room.
  void* get() const { return data_; }

 private:
  cudaStream_t stream_;
  void* data_ = nullptr;
};

/// Bytes from the first to the last element of the output.
std::size_t output_bytes(const Gemm& gemm) {
  const Matrix& c = gemm.c.matrix;
  const std::int64_t elements =
      (gemm.batch - 1) * gemm.c.stride + (c.rows - 1) * c.pitch + c.columns;
  return static_cast<std::size_t>(elements * size_of(c.dtype));
}

/// What cuBLASLt asks of an 8-bit product, said before it refuses.
void require_8_bit_form(const Gemm& gemm) {
  const auto require_operand = [](const Gemm::Operand& operand) {
    const Matrix& m = operand.matrix;
    KOIOS_REQUIRE(
        m.rows % 16 == 0 && m.columns % 16 == 0 && m.pitch % 16 == 0 && alignment_of(m.data) >= 16,
        "an 8-bit operand of ", m.rows, "x", m.columns, " with a pitch of ", m.pitch,
        ": sizes must be multiples of 16");
    const OperandScale& scale = operand.scale;
    KOIOS_REQUIRE(alignment_of(scale.data) >= 16, "a scale at an odd place in memory");
    KOIOS_REQUIRE(scale.kind != Fp8ScaleKind::piece || scale.pitch == m.rows,
                  "scales of pieces lie without gaps");
    KOIOS_REQUIRE(scale.kind != Fp8ScaleKind::square ||
                      scale.pitch == round_up(ceil_div(m.columns, kFp8Block), 4),
                  "rows of the scales of squares are ", scale.pitch, " apart");
  };
  require_operand(gemm.a);
  require_operand(gemm.b);
  KOIOS_REQUIRE(!gemm.a.transposed && gemm.b.transposed && gemm.batch == 1,
                "an 8-bit product of this form");
}

double median(std::vector<float> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

/// The descriptors of one kind of product, and its algorithm.
struct GemmCublasLt::Product {
  MatmulDesc desc;
  MatrixLayout a, b, d;
  cublasLtMatmulAlgo_t algorithm{};

  /// c and d differ only while candidates are timed.
  cublasStatus_t run(cublasLtHandle_t handle, cudaStream_t stream, const Gemm& gemm, void* out,
                     const cublasLtMatmulAlgo_t& with, Ref<std::byte, 1> workspace) const {
    const float alpha = gemm.scale;
    const float beta = gemm.accumulate ? 1.0F : 0.0F;
    point_to_scales(desc.get(), gemm);
    // Without accumulation nothing is read, and c must be d.
    const void* c = gemm.accumulate ? gemm.c.matrix.data : out;
    return cublasLtMatmul(handle, desc.get(), &alpha, gemm.b.matrix.data, a.get(),
                          gemm.a.matrix.data, b.get(), &beta, c, d.get(), out, d.get(), &with,
                          workspace.data, static_cast<std::size_t>(workspace.size()), stream);
  }
};

namespace {

using Candidates = std::vector<cublasLtMatmulAlgo_t>;

/// cuBLASLt's proposals, the one it believes in most first.
Candidates propose(cublasLtHandle_t handle, const GemmKey& key, cublasLtMatmulDesc_t desc,
                   cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t d,
                   std::int64_t workspace_bytes, int count) {
  cublasLtMatmulPreference_t raw = nullptr;
  check_cublas(cublasLtMatmulPreferenceCreate(&raw), "cublasLtMatmulPreferenceCreate");
  const Preference preference(raw);
  set(raw, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_bytes));
  // Partial sums of split-K in float32 only: in the output's type they would lose bits.
  set(raw, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE |
                                 CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(key.alignment_a));
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(key.alignment_b));
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(key.alignment_d));
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(key.alignment_d));
  std::vector<cublasLtMatmulHeuristicResult_t> results(count);
  int found = 0;
  check_cublas(
      cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, d, d, raw, count, results.data(), &found),
      "cublasLtMatmulAlgoGetHeuristic");
  Candidates candidates;
  for (int i = 0; i < found; ++i) {
    if (results[i].state == CUBLAS_STATUS_SUCCESS) candidates.push_back(results[i].algo);
  }
  if (candidates.empty()) {
    throw LibraryError("cuBLASLt", "cublasLtMatmulAlgoGetHeuristic",
                       cat("no algorithm for ", to_string(key)), std::source_location::current());
  }
  return candidates;
}

/// Times `run(candidate)`, which returns false if it cannot, on the stream. All are run once on the
/// card as it is; the best of these take turns on the hot card, without a pause, and the median of
/// their turns counts.
template <class Run>
std::size_t fastest(cudaStream_t stream, std::size_t count, double heat_ms, const Run& run) {
  struct Entry {
    std::size_t index;
    float once_ms = 0;
    std::vector<float> turns_ms = {};
  };
  const CudaEvent start = make_event();
  const CudaEvent stop = make_event();
  const auto time = [&](std::size_t index, int repeats) -> std::optional<float> {
    check_cuda(cudaEventRecord(start.get(), stream), "cudaEventRecord");
    for (int i = 0; i < repeats; ++i) {
      if (!run(index)) return std::nullopt;
    }
    check_cuda(cudaEventRecord(stop.get(), stream), "cudaEventRecord");
    check_cuda(cudaEventSynchronize(stop.get()), "cudaEventSynchronize");
    float ms = 0;
    check_cuda(cudaEventElapsedTime(&ms, start.get(), stop.get()), "cudaEventElapsedTime");
    return ms / static_cast<float>(repeats);
  };

  std::vector<Entry> entries;
  for (std::size_t i = 0; i < count; ++i) {
    if (!time(i, 1)) continue;  // loads the kernel
    if (const auto ms = time(i, 1)) entries.push_back({i, *ms});
  }
  if (entries.empty()) return 0;
  std::sort(entries.begin(), entries.end(),
            [](const Entry& x, const Entry& y) { return x.once_ms < y.once_ms; });
  const float limit = static_cast<float>(kHopeless) * entries[0].once_ms;
  std::erase_if(entries, [&](const Entry& e) { return e.once_ms > limit; });
  if (entries.size() > kFinalists) entries.resize(kFinalists);
  if (entries.size() == 1) return entries[0].index;

  const auto repeats_for = [&](double ms) {
    return std::max(1, static_cast<int>(ms / entries[0].once_ms));
  };
  time(entries[0].index, repeats_for(heat_ms));
  for (int round = 0; round < kFinalRounds; ++round) {
    for (Entry& entry : entries) {
      if (const auto ms = time(entry.index, repeats_for(kTurnMs))) entry.turns_ms.push_back(*ms);
    }
  }
  return std::min_element(entries.begin(), entries.end(),
                          [](const Entry& x, const Entry& y) {
                            return y.turns_ms.empty() ||
                                   (!x.turns_ms.empty() && median(x.turns_ms) < median(y.turns_ms));
                          })
      ->index;
}

}  // namespace

GemmCublasLt::GemmCublasLt(const MathOptions& options, Ref<std::byte, 1> workspace)
    : options_(options),
      workspace_(workspace),
      handle_(open_cublaslt()),
      choices_(options.gemm_cache_file, environment(), options.more_gemm_choices) {}

GemmCublasLt::~GemmCublasLt() = default;

cublasLtMatmulAlgo_t GemmCublasLt::choose(Stream& stream, const Gemm& gemm, const GemmKey& key,
                                          const Product& product) {
  const auto stored = options_.deterministic ? std::nullopt : choices_.find(key);
  if (stored) {
    cublasLtMatmulAlgo_t algorithm;
    static_assert(sizeof(algorithm) == sizeof(*stored));
    std::memcpy(&algorithm, stored->data(), sizeof(algorithm));
    cublasLtMatmulHeuristicResult_t result{};
    const auto status =
        cublasLtMatmulAlgoCheck(handle_.get(), product.desc.get(), product.a.get(), product.b.get(),
                                product.d.get(), product.d.get(), &algorithm, &result);
    if (status == CUBLAS_STATUS_SUCCESS &&
        static_cast<std::int64_t>(result.workspaceSize) <= workspace_.size()) {
      return algorithm;
    }
    log::warning("the stored GEMM choice for ", to_string(key), " does not fit and is made anew");
  }
  const double flop = 2.0 * static_cast<double>(key.m) * static_cast<double>(key.n) *
                      static_cast<double>(key.k) * static_cast<double>(key.batch);
  const bool timed = gemm.tune && !options_.deterministic && flop >= kWorthTiming;
  const Candidates candidates =
      propose(handle_.get(), key, product.desc.get(), product.a.get(), product.b.get(),
              product.d.get(), workspace_.size(), timed ? kMaxCandidates : 1);
  if (!timed) return candidates[0];

  std::size_t best = 0;
  if (candidates.size() > 1) {
    const TemporaryMemory out(native(stream), output_bytes(gemm));
    if (out.get() == nullptr) {
      log::warning("no memory to time the GEMM ", to_string(key),
                   ": cuBLASLt's first choice is taken");
      return candidates[0];
    }
    const double heat_ms = std::exchange(is_hot_, true) ? kKeepHotMs : kHeatMs;
    best = fastest(native(stream), candidates.size(), heat_ms, [&](std::size_t i) {
      return product.run(handle_.get(), native(stream), gemm, out.get(), candidates[i],
                         workspace_) == CUBLAS_STATUS_SUCCESS;
    });
  }
  GemmAlgorithm words;
  std::memcpy(words.data(), &candidates[best], sizeof(words));
  choices_.add(key, words);
  return candidates[best];
}

std::unique_ptr<GemmCublasLt::Product> GemmCublasLt::make_product(Stream& stream, const Gemm& gemm,
                                                                  const GemmKey& key) {
  const auto layout = [&](DType dtype, bool transposed, std::int64_t rows, std::int64_t columns,
                          std::int64_t ld, std::int64_t stride) {
    if (transposed) std::swap(rows, columns);
    return make_layout(dtype, rows, columns, ld, key.batch, stride);
  };
  auto product = std::make_unique<Product>();
  product->desc = make_desc(key);
  point_to_scales(product->desc.get(), gemm);
  product->a = layout(key.input_a, key.transpose_a, key.m, key.k, key.lda, key.stride_a);
  product->b = layout(key.input_b, key.transpose_b, key.k, key.n, key.ldb, key.stride_b);
  product->d = layout(key.output, false, key.m, key.n, key.ldd, key.stride_d);
  product->algorithm = choose(stream, gemm, key, *product);
  return product;
}

GemmCublasLt::Product& GemmCublasLt::product(Stream& stream, const Gemm& gemm) {
  const GemmKey key = key_of(gemm);
  auto& product = products_[key];
  if (!product) product = make_product(stream, gemm, key);
  return *product;
}

void GemmCublasLt::run(Stream& stream, const Gemm& gemm) {
  if (size_of(gemm.a.matrix.dtype) == 1) {
    require_8_bit_form(gemm);
  } else {
    KOIOS_REQUIRE(gemm.a.matrix.dtype == gemm.b.matrix.dtype, "operands of different types");
  }
  void* out = const_cast<void*>(gemm.c.matrix.data);
  if (key_of(gemm).k == 0) {  // an empty sum, which cuBLASLt refuses
    KOIOS_REQUIRE(gemm.batch == 1, "a batch of empty products");
    if (gemm.accumulate) return;
    const Matrix& c = gemm.c.matrix;
    const auto width = static_cast<std::size_t>(size_of(c.dtype));
    check_cuda(
        cudaMemset2DAsync(out, c.pitch * width, 0, c.columns * width, c.rows, native(stream)),
        "cudaMemset2DAsync");
    return;
  }
  const Product& p = product(stream, gemm);
  check_cublas(p.run(handle_.get(), native(stream), gemm, out, p.algorithm, workspace_),
               "cublasLtMatmul");
}

}  // namespace koios::detail
