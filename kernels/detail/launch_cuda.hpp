// The CUDA half of launch.hpp, which includes it. Threads read 16 bytes at a time where alignment
// allows; a row is held by the threads of a warp or of a block, each with a few packs in registers
// (a Shape), so that it is read once. Sums go through fixed trees of shuffles and shared memory:
// the same bits every time, and the same bits in every thread of the row.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "kernels/detail/divider.hpp"
#include "kernels/detail/pack.hpp"

namespace koios::detail {

inline constexpr int kWarp = 32;

struct Add {
  KOIOS_HOST_DEVICE float operator()(float a, float b) const { return a + b; }
};
struct Larger {
  KOIOS_HOST_DEVICE float operator()(float a, float b) const { return a > b ? a : b; }
};

struct LargerMagnitude {
  KOIOS_HOST_DEVICE float operator()(float a, float b) const { return larger_magnitude(a, b); }
};

/// Combines one value of each of kThreads threads: a warp, or the whole block.
template <int kThreads, class Op>
KOIOS_HOST_DEVICE inline float across_threads(float x, [[maybe_unused]] int rank, Op op) {
#if defined(__CUDA_ARCH__)
  KOIOS_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    x = op(x, __shfl_xor_sync(0xffffffffU, x, distance));
  }
  if constexpr (kThreads > kWarp) {
    constexpr int kWarps = kThreads / kWarp;
    static_assert((kWarps & (kWarps - 1)) == 0 && kWarps <= kWarp);
    __shared__ float of_warp[kWarps];
    __syncthreads();  // the last combination's values are read
    if (rank % kWarp == 0) of_warp[rank / kWarp] = x;
    __syncthreads();
    x = of_warp[rank % kWarps];
    KOIOS_UNROLL
    for (int distance = kWarps / 2; distance > 0; distance /= 2) {
      x = op(x, __shfl_xor_sync(0xffffffffU, x, distance));
    }
  }
#else
  (void)op;
#endif
  return x;
}

/// The same bits, as a value that the compiler knows nothing of. Otherwise it would unpack a row
/// once and keep the floats, twice the registers, from the first pass to the last.
template <class T, int W>
KOIOS_HOST_DEVICE inline ArrayImage<T, W> unrelated(ArrayImage<T, W> image) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(image) % sizeof(std::uint32_t) == 0) {
    std::uint32_t words[sizeof(image) / sizeof(std::uint32_t)];
    std::memcpy(words, &image, sizeof(image));
    KOIOS_UNROLL
    for (auto& word : words) asm volatile("" : "+r"(word));
    std::memcpy(&image, words, sizeof(image));
  }
#endif
  return image;
}

/// kThreads threads that share a row of at most kThreads * kPacks packs of W elements, kept in
/// registers; with kPacks = 0 a row of any length, read anew in each pass.
template <int kThreadsOfRow, int kPacks, int W>
class CudaLanes {
 public:
  static constexpr int kThreads = kThreadsOfRow;
  static constexpr bool kWholeRow = kPacks > 0;
  /// Elements that a body should work on at a time: the row, or what the first-level cache holds.
  static constexpr std::int64_t kChunk = std::int64_t{kThreads} * (kWholeRow ? kPacks : 4) * W;
  using Width = ArrayWidth<W>;

  KOIOS_HOST_DEVICE explicit CudaLanes(int rank) : rank_(rank), first_(rank * W) {}
  KOIOS_HOST_DEVICE int rank() const { return rank_; }

  template <class Body>
  KOIOS_HOST_DEVICE void each(std::int64_t size, const Body& body) const {
    if constexpr (kWholeRow) {
      KOIOS_UNROLL
      for (int p = 0; p < kPacks; ++p) {
        const std::int64_t i = first_ + std::int64_t{p} * kThreads * W;
        if (i < size) body(Width{}, p, i);
      }
    } else {
      KOIOS_UNROLL_BY(4)
      for (std::int64_t i = first_; i < size; i += kThreads * W) body(Width{}, 0, i);
    }
  }

  KOIOS_HOST_DEVICE void prefetch(const void*) const {}

  template <class T>
  class Held {
   public:
    using Element = std::remove_const_t<T>;
    KOIOS_HOST_DEVICE void fetch(const CudaLanes& lanes, const T* row, std::int64_t size) {
      if constexpr (kWholeRow) {
        lanes.each(size, [&](Width width, int p, std::int64_t i) {
          image_[p] = load_image(width, static_cast<const Element*>(row) + i);
        });
      }
    }
    KOIOS_HOST_DEVICE void keep(int p, const ArrayImage<Element, W>& image) {
      if constexpr (kWholeRow) image_[p] = image;
    }
    KOIOS_HOST_DEVICE ArrayPack<W> get(Width width, int p, const T* at) const {
      if constexpr (kWholeRow) {
        return unpack(unrelated(image_[p]));
      } else {
        return load(width, static_cast<const Element*>(at));
      }
    }

   private:
    ArrayImage<Element, W> image_[kWholeRow ? kPacks : 1];
  };

  /// A row of float32 sums that this row's threads alone add to.
  class RowSum {
   public:
    KOIOS_HOST_DEVICE RowSum(const CudaLanes& lanes, float* row, std::int64_t size) : row_(row) {
      if constexpr (kWholeRow) {
        KOIOS_UNROLL
        for (int p = 0; p < kPacks; ++p) sum_[p] = filled(Width{}, 0.0F);
      } else {
        lanes.each(size,
                   [&](Width width, int, std::int64_t i) { store(row_ + i, filled(width, 0.0F)); });
      }
    }
    KOIOS_HOST_DEVICE void add(Width width, int p, std::int64_t i, const ArrayPack<W>& x) {
      if constexpr (kWholeRow) {
        sum_[p] = sum_[p] + x;
      } else {
        store(row_ + i, load(width, row_ + i) + x);
      }
    }
    KOIOS_HOST_DEVICE void write(const CudaLanes& lanes, std::int64_t size) const {
      if constexpr (kWholeRow) {
        lanes.each(size, [&](Width, int p, std::int64_t i) { store(row_ + i, sum_[p]); });
      }
    }

   private:
    float* row_;
    ArrayPack<W> sum_[kWholeRow ? kPacks : 1];
  };

  class Sum {
   public:
    KOIOS_HOST_DEVICE void add(const ArrayPack<W>& x) { value_ += total(x); }
    KOIOS_HOST_DEVICE float value() const { return value_; }

   private:
    float value_ = 0;
  };

  class Max {
   public:
    KOIOS_HOST_DEVICE void add(const ArrayPack<W>& x) { value_ = Larger{}(largest(x), value_); }
    KOIOS_HOST_DEVICE float value() const { return value_; }

   private:
    float value_ = -std::numeric_limits<float>::infinity();
  };

  class Magnitude {
   public:
    KOIOS_HOST_DEVICE void add(const ArrayPack<W>& x) {
      value_ = larger_magnitude(value_, largest_magnitude(x));
    }
    KOIOS_HOST_DEVICE float value() const { return value_; }

   private:
    float value_ = 0;
  };

  KOIOS_HOST_DEVICE float magnitude(float mine) const {
    return across_threads<kThreads>(mine, rank_, LargerMagnitude{});
  }
  KOIOS_HOST_DEVICE float sum(float mine) const {
    return across_threads<kThreads>(mine, rank_, Add{});
  }
  KOIOS_HOST_DEVICE float max(float mine) const {
    return across_threads<kThreads>(mine, rank_, Larger{});
  }

 private:
  int rank_;
  std::int64_t first_;
};

/// body(team, rank) on `teams` blocks of kBlock threads, kResident of which fit a multiprocessor.
template <int kBlock, int kResident, class Body>
struct Teams {
  using Policy = Kokkos::TeamPolicy<Kokkos::Cuda, Kokkos::LaunchBounds<kBlock, kResident>>;
  Body body;

  KOKKOS_FUNCTION void operator()(const typename Policy::member_type& team) const {
    body(static_cast<std::int64_t>(team.league_rank()), team.team_rank());
  }
};

template <int kBlock, int kResident = 1, class Body>
void cuda_teams(const Kokkos::Cuda& exec, const char* label, std::int64_t teams, const Body& body) {
  using Functor = Teams<kBlock, kResident, Body>;
  Kokkos::parallel_for(label, typename Functor::Policy(exec, narrow<int>(teams), kBlock),
                       Functor{body});
}

template <class Lanes, int kBlock, class Body>
struct RowTeams {
  Body body;
  std::int64_t rows;

  KOKKOS_FUNCTION void operator()(std::int64_t team, int rank) const {
    const std::int64_t row = team * (kBlock / Lanes::kThreads) + rank / Lanes::kThreads;
    if (row < rows) body(Lanes(rank % Lanes::kThreads), row);
  }
};

template <class S, int W, class Body>
void cuda_rows_in(const Kokkos::Cuda& exec, const char* label, std::int64_t rows,
                  const Body& body) {
  constexpr int kBlock = S::kThreads > kWarp ? S::kThreads : 4 * kWarp;
  using Lanes = CudaLanes<S::kThreads, S::kPacks, W>;
  cuda_teams<kBlock, S::kResident>(exec, label, ceil_div(rows, kBlock / S::kThreads),
                                   RowTeams<Lanes, kBlock, Body>{body, rows});
}

template <class T, class Body, class... Each>
void cuda_rows(const Kokkos::Cuda& exec, const char* label, std::int64_t rows,
               std::int64_t row_size, bool packs, const Body& body, Shapes<Each...>) {
  constexpr int W = 16 / sizeof(T);
  if (!packs || row_size % W != 0) {
    cuda_rows_in<Shape<256, 0>, 1>(exec, label, rows, body);
    return;
  }
  [[maybe_unused]] const auto try_shape = [&]<class S>(S) {  // the list may be empty
    if (row_size > std::int64_t{S::kThreads} * S::kPacks * W) return false;
    cuda_rows_in<S, W>(exec, label, rows, body);
    return true;
  };
  const bool done = (try_shape(Each{}) || ...);
  if (!done) cuda_rows_in<Shape<512, 0>, W>(exec, label, rows, body);
}

template <int W, class Body>
struct PacksOfRows {
  Body body;
  Divider packs_of_row;

  KOKKOS_FUNCTION void operator()(std::int64_t k) const {
    const std::int64_t row = packs_of_row.quotient(k);
    body(ArrayWidth<W>{}, row, packs_of_row.remainder(k) * W);
  }
};

template <int W, class Body>
struct PacksOfArray {
  Body body;
  std::int64_t size;

  KOKKOS_FUNCTION void operator()(std::int64_t k) const {
    std::int64_t i = k * W;
    if (i + W <= size) {
      body(ArrayWidth<W>{}, i);
    } else {
      for (; i < size; ++i) body(Scalar{}, i);
    }
  }
};

using CudaRange =
    Kokkos::RangePolicy<Kokkos::Cuda, Kokkos::IndexType<std::int64_t>, Kokkos::LaunchBounds<256>>;

/// A block takes kTurns packs with each of its threads, and raises amax once.
template <int W, class Body>
struct PacksWithAmax {
  static constexpr int kBlock = 256;
  static constexpr int kTurns = 4;
  static constexpr std::int64_t kTogether = kBlock * kTurns;
  Body body;
  Divider packs_of_row;
  std::int64_t packs;
  float* amax;

  KOKKOS_FUNCTION void operator()(std::int64_t team, int rank) const {
    float largest = 0;
    for (int turn = 0; turn < kTurns; ++turn) {
      const std::int64_t k = team * kTogether + turn * kBlock + rank;
      if (k >= packs) break;
      const auto written =
          body(ArrayWidth<W>{}, packs_of_row.quotient(k), packs_of_row.remainder(k) * W);
      largest = larger_magnitude(largest, largest_magnitude(written));
    }
    largest = across_threads<kBlock>(largest, rank, LargerMagnitude{});
    if (rank == 0) raise_magnitude(amax, largest);
  }
};

template <class T, int kTail, class Body>
void cuda_packs_with_amax(const Kokkos::Cuda& exec, const char* label, std::int64_t rows,
                          std::int64_t row_size, bool packs, float* amax, const Body& body) {
  const auto run = [&]<int W>(ArrayWidth<W>) {
    using Functor = PacksWithAmax<W, Body>;
    const std::int64_t packs_of_row = row_size / W;
    const std::int64_t count = rows * packs_of_row;
    KOIOS_REQUIRE(count <= Divider::kLargest, rows, "x", row_size, " elements");
    cuda_teams<Functor::kBlock, 4>(exec, label, ceil_div(count, Functor::kTogether),
                                   Functor{body, Divider(packs_of_row), count, amax});
  };
  constexpr int W = 16 / sizeof(T);
  if (packs && row_size % W == 0) {
    run(ArrayWidth<W>{});
  } else {
    run(ArrayWidth<kTail>{});
  }
}

template <class T, int kTail, class Body>
void cuda_packs(const Kokkos::Cuda& exec, const char* label, std::int64_t rows,
                std::int64_t row_size, bool packs, const Body& body) {
  const auto run = [&]<int W>(ArrayWidth<W>) {
    const std::int64_t packs_of_row = row_size / W;
    KOIOS_REQUIRE(rows * packs_of_row <= Divider::kLargest, rows, "x", row_size, " elements");
    Kokkos::parallel_for(label, CudaRange(exec, 0, rows * packs_of_row),
                         PacksOfRows<W, Body>{body, Divider(packs_of_row)});
  };
  constexpr int W = 16 / sizeof(T);
  if (packs && row_size % W == 0) {
    run(ArrayWidth<W>{});
  } else {
    run(ArrayWidth<kTail>{});
  }
}

template <class T, class Body>
void cuda_elements(const Kokkos::Cuda& exec, const char* label, std::int64_t size, bool packs,
                   const Body& body) {
  constexpr int W = 16 / sizeof(T);
  if (packs) {
    Kokkos::parallel_for(label, CudaRange(exec, 0, ceil_div(size, W)),
                         PacksOfArray<W, Body>{body, size});
  } else {
    Kokkos::parallel_for(label, CudaRange(exec, 0, size), PacksOfArray<1, Body>{body, size});
  }
}

}  // namespace koios::detail
