// How kernels start: bodies written once, run over rows or over flat elements on the backend of a
// stream. Only kernels/*.cpp include this; Kokkos stays out of public headers.
//
//   for_each_row(..)   body(lanes, row): `lanes` are the threads that share one row - on the host
//                      one thread, on CUDA a warp or a block - with their reductions
//   for_each_pack(..)  body(width, row, i): elements [i, i + width) of a row, independent of others
//
// Bodies are functors that capture Refs by value. On the host the rows are split over Kokkos'
// threads; every row is computed by one thread in one order, so the number of threads does not
// change a bit. On CUDA a row's packs lie in registers between a reduction and what follows it.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cstdint>
#include <limits>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/ref.hpp"
#include "kernels/detail/pack.hpp"
#include "runtime/stream.hpp"

namespace koios::detail {

using HostExec = Kokkos::DefaultHostExecutionSpace;
using HostRange = Kokkos::RangePolicy<HostExec, Kokkos::IndexType<std::int64_t>>;

/// The least work, in elements, that a host thread is woken for.
inline constexpr std::int64_t kHostGrain = 8192;

#if defined(KOIOS_CUDA)
/// Kokkos' instance for a stream of the cuda backend, made once per stream: making one allocates.
const Kokkos::Cuda& cuda_instance(const Stream& s);
#endif

/// Calls on_host(HostExec) or on_cuda(Kokkos::Cuda). A host stream may have communication to
/// complete before the kernel may touch its buffers.
template <class OnHost, class OnCuda>
void dispatch(Stream& s, const OnHost& on_host, [[maybe_unused]] const OnCuda& on_cuda) {
  if (s.backend() == Backend::host) {
    s.synchronize();
    on_host(HostExec{});
    return;
  }
#if defined(KOIOS_CUDA)
  on_cuda(cuda_instance(s));
#else
  KOIOS_REQUIRE(false, "this build has no CUDA kernels");
#endif
}

/// Whether every row of each Ref can be read in packs of 16 bytes.
template <class... Refs>
bool allows_packs(const Refs&... refs) {
  const auto allows = [](const auto& ref) {
    constexpr std::int64_t kElements = 16 / std::int64_t{sizeof(*ref.data)};
    return reinterpret_cast<std::uintptr_t>(ref.data) % 16 == 0 &&
           (ref.rows() <= 1 || ref.pitch % kElements == 0);
  };
  return (allows(refs) && ...);
}

// ---- lanes ----

/// The host's single thread. It keeps nothing between passes: the row is still in its cache.
struct HostLane {
  static constexpr int kThreads = 1;
  static constexpr bool kWholeRow = false;
  static constexpr std::int64_t kChunk = 1024;  // elements that stay in the first-level cache
  using Simd = SimdWidth<kSimdFloats>;

  KOIOS_HOST_DEVICE int rank() const { return 0; }

  /// body(width, p, i) for the packs of this lane; p numbers them.
  template <class Body>
  KOIOS_HOST_DEVICE void each(std::int64_t size, const Body& body) const {
    std::int64_t i = 0;
    for (; i + kSimdFloats <= size; i += kSimdFloats) body(Simd{}, 0, i);
    for (; i < size; ++i) body(Scalar{}, 0, i);
  }

  /// Asks for memory that a later pass will read. Processors do not fetch ahead over the end of a
  /// page by themselves, so a pass that computes much should call it for what comes next.
  KOIOS_HOST_DEVICE void prefetch([[maybe_unused]] const void* at) const {
#if !defined(__CUDA_ARCH__)
    __builtin_prefetch(at);
#endif
  }

  /// What a body reads more than once of a row: fetched before, kept, read again where it is used.
  template <class T>
  struct Held {
    KOIOS_HOST_DEVICE void fetch(const HostLane&, const T*, std::int64_t) {}
    template <class Image>
    KOIOS_HOST_DEVICE void keep(int, const Image&) {}
    template <class Width>
    KOIOS_HOST_DEVICE typename Width::Pack get(Width width, int, const T* at) const {
      return load(width, at);
    }
  };

  /// A row of float32 sums that this lane alone adds to.
  class RowSum {
   public:
    KOIOS_HOST_DEVICE RowSum(const HostLane& lane, float* row, std::int64_t size) : row_(row) {
      lane.each(size,
                [&](auto width, int, std::int64_t i) { store(row + i, filled(width, 0.0F)); });
    }
    template <class Width, class Pack>
    KOIOS_HOST_DEVICE void add(Width width, int, std::int64_t i, const Pack& x) {
      store(row_ + i, load(width, row_ + i) + x);
    }
    KOIOS_HOST_DEVICE void write(const HostLane&, std::int64_t) const {}

   private:
    float* row_;
  };

  class Sum {
   public:
    template <int W>
    KOIOS_HOST_DEVICE void add(const SimdPack<W>& x) {
      packs_ = packs_ + x;
    }
    KOIOS_HOST_DEVICE void add(const ArrayPack<1>& x) { tail_ += x.v[0]; }
    KOIOS_HOST_DEVICE float value() const { return total(packs_) + tail_; }

   private:
    SimdPack<kSimdFloats> packs_ = filled(Simd{}, 0.0F);
    float tail_ = 0;
  };

  class Max {
   public:
    template <int W>
    KOIOS_HOST_DEVICE void add(const SimdPack<W>& x) {
      packs_ = larger(x, packs_);
    }
    KOIOS_HOST_DEVICE void add(const ArrayPack<1>& x) { tail_ = x.v[0] > tail_ ? x.v[0] : tail_; }
    KOIOS_HOST_DEVICE float value() const {
      const float m = largest(packs_);
      return m > tail_ ? m : tail_;
    }

   private:
    static constexpr float kLowest = -std::numeric_limits<float>::infinity();
    SimdPack<kSimdFloats> packs_ = filled(Simd{}, kLowest);
    float tail_ = kLowest;
  };

  /// Of what was added, the largest magnitude; NaN if there was one.
  class Magnitude {
   public:
    template <int W>
    KOIOS_HOST_DEVICE void add(const SimdPack<W>& x) {
      packs_ = larger_magnitude(packs_, x);
    }
    KOIOS_HOST_DEVICE void add(const ArrayPack<1>& x) { tail_ = larger_magnitude(tail_, x.v[0]); }
    KOIOS_HOST_DEVICE void add(const ArrayPack<2>& x) {
      tail_ = larger_magnitude(tail_, largest_magnitude(x));
    }
    KOIOS_HOST_DEVICE float value() const {
      return larger_magnitude(largest_magnitude(packs_), tail_);
    }

   private:
    SimdPack<kSimdFloats> packs_ = filled(Simd{}, 0.0F);
    float tail_ = 0;
  };

  /// Over all lanes of the row, the same bits in each of them.
  KOIOS_HOST_DEVICE float magnitude(float mine) const { return mine; }
  KOIOS_HOST_DEVICE float sum(float mine) const { return mine; }
  KOIOS_HOST_DEVICE float max(float mine) const { return mine; }
};

// ---- CUDA's ways to hold a row, named by bodies ----

/// One way to hold a row: how many threads, packs of each, and blocks to fit a multiprocessor.
template <int kThreads_, int kPacks_, int kResident_ = 1>
struct Shape {
  static constexpr int kThreads = kThreads_;
  static constexpr int kPacks = kPacks_;
  static constexpr int kResident = kResident_;
};
/// In the order in which they are tried.
template <class... Each>
struct Shapes {};

/// at = the larger one of itself and a magnitude that was found. Whatever the order, the same bits.
KOKKOS_INLINE_FUNCTION void raise_magnitude(float* at, float magnitude) {
  // As integers, magnitudes have the order of larger_magnitude.
  auto* bits = reinterpret_cast<std::uint32_t*>(at);
  const auto mine = __builtin_bit_cast(std::uint32_t, magnitude);
  if (mine > *static_cast<volatile std::uint32_t*>(bits)) Kokkos::atomic_max(bits, mine);
}

/// One, or none.
inline void require_one_amax(Ref<float, 1> amax) {
  KOIOS_REQUIRE(amax.data == nullptr || amax.extent[0] == 1, "one amax, not ", amax.extent[0]);
}

// ---- loops of the host ----

/// body(lane, row), several rows at a time where one is little work.
template <class Body>
void host_rows(const char* label, std::int64_t rows, std::int64_t work, const Body& body) {
  const std::int64_t together = ceil_div(kHostGrain, std::max<std::int64_t>(1, work));
  Kokkos::parallel_for(label, HostRange(HostExec{}, 0, ceil_div(rows, together)),
                       [=](std::int64_t group) {
                         const std::int64_t end = std::min(rows, (group + 1) * together);
                         for (std::int64_t row = group * together; row < end; ++row) {
                           body(HostLane{}, row);
                         }
                       });
}

/// body(begin, end) for fixed pieces of [0, size).
template <class Body>
void host_chunks(const char* label, std::int64_t size, const Body& body) {
  Kokkos::parallel_for(label, HostRange(HostExec{}, 0, ceil_div(size, kHostGrain)),
                       [=](std::int64_t chunk) {
                         body(chunk * kHostGrain, std::min(size, (chunk + 1) * kHostGrain));
                       });
}

}  // namespace koios::detail

#if defined(KOIOS_CUDA)
#include "kernels/detail/launch_cuda.hpp"
#endif

namespace koios::detail {

/// body(lanes, row) for every row. T: the type whose rows are long, which decides the packs; packs:
/// whether its rows and all others that the body reads in packs allow them. Body::CudaShapes are
/// the ways in which CUDA may hold a row; where none fits, a body reads it anew in each pass.
/// work: elements that one call of the body reads, where that is not row_size.
template <class T, class Body>
void for_each_row(Stream& s, const char* label, std::int64_t rows, std::int64_t row_size,
                  [[maybe_unused]] bool packs, const Body& body, std::int64_t work = 0) {
  if (rows == 0) return;
  dispatch(
      s, [&](HostExec) { host_rows(label, rows, work > 0 ? work : row_size, body); },
      [&](auto exec) {
#if defined(KOIOS_CUDA)
        cuda_rows<T>(exec, label, rows, row_size, packs, body, typename Body::CudaShapes{});
#else
        (void)exec;
#endif
      });
}

/// body(width, row, i) for every pack of every row. Rows that do not allow packs, and what is left
/// of a row after its last whole pack, go by kTail elements at a time (2 where pairs matter).
template <class T, int kTail = 1, class Body>
void for_each_pack(Stream& s, const char* label, std::int64_t rows, std::int64_t row_size,
                   [[maybe_unused]] bool packs, const Body& body) {
  if (rows == 0 || row_size == 0) return;
  dispatch(
      s,
      [&](HostExec) {
        host_rows(label, rows, row_size, [=](const HostLane&, std::int64_t row) {
          std::int64_t i = 0;
          for (; i + kSimdFloats <= row_size; i += kSimdFloats) {
            body(HostLane::Simd{}, row, i);
          }
          for (; i < row_size; i += kTail) body(ArrayWidth<kTail>{}, row, i);
        });
      },
      [&](auto exec) {
#if defined(KOIOS_CUDA)
        cuda_packs<T, kTail>(exec, label, rows, row_size, packs, body);
#else
        (void)exec;
#endif
      });
}

/// The same with a body that returns what it has written: amax[0] is raised to its largest
/// magnitude. Where amax is empty, nobody wants to know.
template <class T, int kTail = 1, class Body>
void for_each_pack_with_amax(Stream& s, const char* label, std::int64_t rows, std::int64_t row_size,
                             bool packs, Ref<float, 1> amax, const Body& body) {
  if (amax.data == nullptr) return for_each_pack<T, kTail>(s, label, rows, row_size, packs, body);
  require_one_amax(amax);
  if (rows == 0 || row_size == 0) return;
  dispatch(
      s,
      [&](HostExec) {
        host_rows(label, rows, row_size, [=](const HostLane&, std::int64_t row) {
          HostLane::Magnitude largest;
          std::int64_t i = 0;
          for (; i + kSimdFloats <= row_size; i += kSimdFloats) {
            largest.add(body(HostLane::Simd{}, row, i));
          }
          for (; i < row_size; i += kTail) largest.add(body(ArrayWidth<kTail>{}, row, i));
          raise_magnitude(amax.data, largest.value());
        });
      },
      [&](auto exec) {
#if defined(KOIOS_CUDA)
        cuda_packs_with_amax<T, kTail>(exec, label, rows, row_size, packs, amax.data, body);
#else
        (void)exec;
#endif
      });
}

/// body(width, i) for every pack of one long array.
template <class T, class Body>
void for_each_element(Stream& s, const char* label, std::int64_t size, [[maybe_unused]] bool packs,
                      const Body& body) {
  if (size == 0) return;
  dispatch(
      s,
      [&](HostExec) {
        host_chunks(label, size, [=](std::int64_t begin, std::int64_t end) {
          std::int64_t i = begin;
          for (; i + kSimdFloats <= end; i += kSimdFloats) body(HostLane::Simd{}, i);
          for (; i < end; ++i) body(Scalar{}, i);
        });
      },
      [&](auto exec) {
#if defined(KOIOS_CUDA)
        cuda_elements<T>(exec, label, size, packs, body);
#else
        (void)exec;
#endif
      });
}

}  // namespace koios::detail
