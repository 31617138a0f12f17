#include "comm/detail/sum_parts.hpp"

#include <algorithm>
#include <cstdint>

#include "core/error.hpp"
#include "runtime/check_cuda.hpp"

namespace koios {
namespace {

constexpr int kThreads = 512;
constexpr int kMostBlocks = 264;  // two per multiprocessor: enough for the memory's full rate

struct Parts {
  const void* part[kMaxParts];
  int count;
};

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T value[kWidth];
};

template <class T, int kWidth>
__global__ void sum_kernel(T* out, Parts parts, std::int64_t packs) {
  using P = Pack<T, kWidth>;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs;
       i += stride) {
    float sum[kWidth] = {};
    for (int p = 0; p < parts.count; ++p) {
      const P pack = static_cast<const P*>(parts.part[p])[i];
      for (int k = 0; k < kWidth; ++k) sum[k] += static_cast<float>(pack.value[k]);
    }
    P pack;
    for (int k = 0; k < kWidth; ++k) pack.value[k] = static_cast<T>(sum[k]);
    reinterpret_cast<P*>(out)[i] = pack;
  }
}

template <class T, int kWidth>
void launch(cudaStream_t stream, AnyRef mine, const Parts& parts) {
  const std::int64_t packs = mine.count / kWidth;
  const std::int64_t blocks =
      std::min<std::int64_t>((packs + kThreads - 1) / kThreads, kMostBlocks);
  sum_kernel<T, kWidth><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      static_cast<T*>(mine.data), parts, packs);
  check_cuda(cudaGetLastError(), "sum_kernel");
}

template <class T>
void sum(cudaStream_t stream, AnyRef mine, const Parts& parts) {
  constexpr int kWidth = 16 / sizeof(T);
  bool is_aligned =
      mine.count % kWidth == 0 && reinterpret_cast<std::uintptr_t>(mine.data) % 16 == 0;
  for (int p = 0; p < parts.count; ++p) {
    is_aligned = is_aligned && reinterpret_cast<std::uintptr_t>(parts.part[p]) % 16 == 0;
  }
  if (is_aligned) {
    launch<T, kWidth>(stream, mine, parts);
  } else {
    launch<T, 1>(stream, mine, parts);
  }
}

}  // namespace

void sum_parts(cudaStream_t stream, AnyRef mine, std::span<const void* const> parts) {
  KOIOS_REQUIRE(parts.size() <= kMaxParts, parts.size(), " parts");
  Parts all{};
  for (const void* part : parts) all.part[all.count++] = part;
  if (mine.dtype == DType::float32) {
    sum<float>(stream, mine, all);
  } else {
    KOIOS_REQUIRE(mine.dtype == DType::bfloat16, "sum of ", to_string(mine.dtype));
    sum<bf16>(stream, mine, all);
  }
}

}  // namespace koios
