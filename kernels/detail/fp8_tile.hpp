// Tiles of 128 rows for casts to FP8 that also write the transpose: each element is read once. On
// CUDA a thread holds V columns of four neighbouring rows, so that its 8-bit values make up words
// of a column, and the tile is turned in shared memory. Both results are written in whole sectors.
// Only kernels/*.cpp include this.
#pragma once

#include "kernels/detail/fp8_scale.hpp"
#include "kernels/detail/launch.hpp"

namespace koios::detail {

inline constexpr std::int64_t kTileRows = kFp8Block;
inline constexpr std::int64_t kHostTileColumns = kFp8Block;

/// Where a tile begins; tiles that follow one another along the rows come one after the other.
struct TileStart {
  std::int64_t n, k;

  KOKKOS_INLINE_FUNCTION TileStart(std::int64_t tile, std::int64_t columns, std::int64_t of_tile) {
    const std::int64_t tiles_of_row = ceil_div(columns, of_tile);
    n = tile / tiles_of_row * kTileRows;
    k = tile % tiles_of_row * of_tile;
  }
};

template <class T>
std::int64_t count_tiles(Ref<T, 2> x, std::int64_t columns) {
  return ceil_div(x.extent[0], kTileRows) * ceil_div(x.extent[1], columns);
}

// ---- the host: loops over the elements of a tile ----

/// f(n, k) for the elements of a tile.
template <class T, class F>
void each_of_tile(Ref<T, 2> x, std::int64_t tile, const F& f) {
  const TileStart start(tile, x.extent[1], kHostTileColumns);
  const std::int64_t n_end = std::min(start.n + kTileRows, x.extent[0]);
  const std::int64_t k_end = std::min(start.k + kHostTileColumns, x.extent[1]);
  for (std::int64_t n = start.n; n < n_end; ++n) {
    for (std::int64_t k = start.k; k < k_end; ++k) f(n, k);
  }
}

template <class T, class Body>
void host_tiles(const char* label, Ref<T, 2> x, const Body& body) {
  Kokkos::parallel_for(label, HostRange(HostExec{}, 0, count_tiles(x, kHostTileColumns)),
                       [=](std::int64_t tile) { body(tile); });
}

// ---- CUDA: tiles in registers and shared memory ----

#if defined(KOIOS_CUDA)

inline constexpr int kTileThreads = 256;
inline constexpr int kGroup = 8;     // threads side by side along a row
inline constexpr int kHeldRows = 4;  // of a thread, neighbours: the bytes of a word

/// Which part of a tile of kGroup * V columns a thread holds.
template <int V>
struct Place {
  static constexpr int kColumns = kGroup * V;
  int row, column;

  KOKKOS_INLINE_FUNCTION explicit Place(int rank)
      : row(rank / kGroup * kHeldRows), column(rank % kGroup * V) {}
};

/// V values of a row; zeros where the matrix has ended.
template <int V, bool kPacks, class T>
KOKKOS_INLINE_FUNCTION ArrayImage<T, V> fetch(Ref<const T, 2> x, std::int64_t n, std::int64_t k) {
  ArrayImage<T, V> image{};
  if (n >= x.extent[0]) return image;
  if constexpr (kPacks) {
    if (k < x.extent[1]) image = load_image(ArrayWidth<V>{}, x.row(n) + k);
  } else {
    KOIOS_UNROLL
    for (int j = 0; j < V; ++j) {
      if (k + j < x.extent[1]) image.v[j] = x.row(n)[k + j];
    }
  }
  return image;
}

template <int V, bool kPacks, class T>
KOKKOS_INLINE_FUNCTION void put(Ref<T, 2> x, std::int64_t n, std::int64_t k,
                                const ArrayImage<T, V>& image) {
  if (n >= x.extent[0]) return;
  if constexpr (kPacks) {
    if (k < x.extent[1]) store_image(x.row(n) + k, image);
  } else {
    KOIOS_UNROLL
    for (int j = 0; j < V; ++j) {
      if (k + j < x.extent[1]) x.row(n)[k + j] = image.v[j];
    }
  }
}

/// Turns a tile of 128 rows and kColumns of 8-bit values. In shared memory a column is 32 words of
/// four rows. Sixteen bytes are the unit of reading, and their place within the column depends on
/// the column, so that neither writing words nor reading units meets a bank twice.
template <class Q, int V>
class TurnedTile {
 public:
  static constexpr int kColumns = Place<V>::kColumns;
  static constexpr int kWords = kTileRows / kHeldRows;

  KOKKOS_INLINE_FUNCTION explicit TurnedTile(std::uint32_t (&words)[kColumns * kWords])
      : words_(words) {}

#if defined(__CUDA_ARCH__)
  __device__ void take(Place<V> place, const ArrayImage<Q, V> (&rows)[kHeldRows]) {
    KOIOS_UNROLL
    for (int j = 0; j < V; j += 4) {
      std::uint32_t r[kHeldRows];
      KOIOS_UNROLL
      for (int i = 0; i < kHeldRows; ++i) std::memcpy(&r[i], &rows[i].v[j], sizeof(r[i]));
      // Bytes of two rows in turn, then of four.
      const std::uint32_t low01 = __byte_perm(r[0], r[1], 0x5140);
      const std::uint32_t low23 = __byte_perm(r[2], r[3], 0x5140);
      const std::uint32_t high01 = __byte_perm(r[0], r[1], 0x7362);
      const std::uint32_t high23 = __byte_perm(r[2], r[3], 0x7362);
      word(place.column + j, place.row) = __byte_perm(low01, low23, 0x5410);
      word(place.column + j + 1, place.row) = __byte_perm(low01, low23, 0x7632);
      word(place.column + j + 2, place.row) = __byte_perm(high01, high23, 0x5410);
      word(place.column + j + 3, place.row) = __byte_perm(high01, high23, 0x7632);
    }
  }

  /// Between barriers: the tile that begins at (n, k) of the matrix, to its transpose.
  template <bool kPacks>
  __device__ void write(Ref<Q, 2> q_KN, std::int64_t n, std::int64_t k, int rank) const {
    constexpr int kUnit = 16;
    const int row = rank % kGroup * kUnit;
    KOIOS_UNROLL
    for (int column = rank / kGroup; column < kColumns; column += kTileThreads / kGroup) {
      ArrayImage<Q, kUnit> image;
      std::memcpy(&image, reinterpret_cast<const uint4*>(&words_[at(column, row)]), sizeof(image));
      put<kUnit, kPacks>(q_KN, k + column, n + row, image);
    }
  }

 private:
  __device__ static int at(int column, int row) {
    const int word = row / kHeldRows;
    return column * kWords + ((word / 4) ^ (column / V % kGroup)) * 4 + word % 4;
  }
  __device__ std::uint32_t& word(int column, int row) { return words_[at(column, row)]; }
#endif

 private:
  std::uint32_t (&words_)[kColumns * kWords];
};

/// Whether tiles may be read and written 16 bytes at a time.
template <class Q, class T>
bool tiles_allow_packs(Ref<const T, 2> x_NK, Ref<Q, 2> q_NK, Ref<Q, 2> q_KN) {
  return allows_packs(x_NK, q_NK, q_KN) && x_NK.extent[0] % 16 == 0 && x_NK.extent[1] % 16 == 0;
}

/// Runs Body<kPacks> on the tiles of x.
template <template <bool> class Body, class T, class... Arguments>
void cuda_tiles(const Kokkos::Cuda& exec, const char* label, Ref<T, 2> x, bool packs,
                const Arguments&... arguments) {
  const std::int64_t tiles = count_tiles(x, Body<true>::kColumns);
  if (packs) {
    cuda_teams<kTileThreads, Body<true>::kResident>(exec, label, tiles, Body<true>{arguments...});
  } else {
    cuda_teams<kTileThreads, Body<false>::kResident>(exec, label, tiles, Body<false>{arguments...});
  }
}

#endif

}  // namespace koios::detail
