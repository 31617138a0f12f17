// Tiles for casts to FP8 that also write the transpose: each element is read once. On CUDA a thread
// holds V columns of four neighbouring rows, so that its 8-bit values make up words of a column,
// and the tile is turned in shared memory. Both results are written in whole sectors.
// Only kernels/*.cpp include this.
#pragma once

#include "kernels/detail/fp8_scale.hpp"
#include "kernels/detail/fp8_words.hpp"
#include "kernels/detail/launch.hpp"

namespace koios::detail {

inline constexpr std::int64_t kTileRows = kFp8Block;
inline constexpr std::int64_t kHostTileColumns = kFp8Block;

/// Where a tile begins; tiles that follow one another along the rows come one after the other.
struct TileStart {
  std::int64_t n, k;

  KOKKOS_INLINE_FUNCTION TileStart(std::int64_t tile, std::int64_t columns, std::int64_t of_tile,
                                   std::int64_t tile_rows = kTileRows) {
    // Each thread divides, and 64 bits take it several times as long.
    const auto tiles_of_row = static_cast<std::uint32_t>(ceil_div(columns, of_tile));
    n = static_cast<std::uint32_t>(tile) / tiles_of_row * tile_rows;
    k = static_cast<std::uint32_t>(tile) % tiles_of_row * of_tile;
  }
};

template <class T>
std::int64_t count_tiles(Ref<T, 2> x, std::int64_t columns, std::int64_t rows = kTileRows) {
  return ceil_div(x.extent[0], rows) * ceil_div(x.extent[1], columns);
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

/// x * scale.
template <class Q>
Q scaled(float x, float scale, const Fp8Counters& counters) {
  const float value = x * scale;
  counters.scaled<Q>(ArrayPack<1>{{value}});
  return Q(value);
}

template <class T, class Body>
void host_tiles(const char* label, Ref<T, 2> x, const Body& body) {
  Kokkos::parallel_for(label, HostRange(HostExec{}, 0, count_tiles(x, kHostTileColumns)),
                       [=](std::int64_t tile) { body(tile); });
}

#if defined(KOIOS_CUDA)

// ---- CUDA: tiles in registers and shared memory ----

inline constexpr int kGroup = 8;     // threads side by side along a row
inline constexpr int kHeldRows = 4;  // of a thread, neighbours: the bytes of a word

/// A tile of kRows x kColumns, and what of it a thread holds: kHeldRows rows of V columns in each
/// of kParts parts, which lie side by side.
template <int V_, int kRows_ = kTileRows, int kParts_ = 1>
struct Place {
  static constexpr int V = V_;
  static constexpr int kRows = kRows_;
  static constexpr int kParts = kParts_;
  static constexpr int kColumns = kParts * kGroup * V;
  static constexpr int kThreads = kRows / kHeldRows * kGroup;
  TileStart start;
  int rank, row, column;  // of the first element, within the tile

  KOKKOS_INLINE_FUNCTION Place(std::int64_t tile, int rank_, std::int64_t columns)
      : start(tile, columns, kColumns, kRows),
        rank(rank_),
        row(rank / kGroup * kHeldRows),
        column(rank % kGroup * V) {}
  KOKKOS_INLINE_FUNCTION int column_of(int part) const { return column + part * kGroup * V; }
  KOKKOS_INLINE_FUNCTION std::int64_t n() const { return start.n + row; }
  KOKKOS_INLINE_FUNCTION std::int64_t k(int part = 0) const { return start.k + column_of(part); }
  /// Whether row n() + i is one of `rows`. With packs, all of a thread's rows are, or none.
  template <bool kPacks>
  KOKKOS_INLINE_FUNCTION bool has_row(int i, std::int64_t rows) const {
    return n() + (kPacks ? 0 : i) < rows;
  }
};

template <class T, int V>
struct Held {
  Words<T, V> row[kHeldRows];
};
template <class T, class Place>
struct HeldParts {
  Held<T, Place::V> part[Place::kParts];
};

template <bool kPacks, class T, class Place>
__device__ HeldParts<T, Place> hold(Ref<const T, 2> x, const Place& at) {
  HeldParts<T, Place> held{};
  KOIOS_UNROLL
  for (int part = 0; part < Place::kParts; ++part) {
    KOIOS_UNROLL
    for (int i = 0; i < kHeldRows; ++i) {
      if (!at.template has_row<kPacks>(i, x.extent[0])) continue;
      held.part[part].row[i] = fetch<Place::V, kPacks>(x, at.n() + i, at.k(part));
    }
  }
  return held;
}

/// Codes with a scale for each row; they are also written to q, unless it is empty.
template <bool kPacks, class Q, class T, class Place>
__device__ Held<Q, Place::V> cast_rows(const Held<T, Place::V>& x,
                                       const ArrayPack<kHeldRows>& scale, Ref<Q, 2> q,
                                       const Place& at, int part, const Fp8Counters& counters) {
  Held<Q, Place::V> codes;
  KOIOS_UNROLL
  for (int i = 0; i < kHeldRows; ++i) {
    const auto scaled = unpack(x.row[i]) * scale.v[i];
    counters.template scaled<Q>(scaled);
    codes.row[i] = encode<Q>(scaled);
    if (q.data != nullptr && at.template has_row<kPacks>(i, q.extent[0])) {
      put<kPacks>(q, at.n() + i, at.k(part), codes.row[i]);
    }
  }
  return codes;
}

/// Codes with a scale for each column.
template <class Q, class T, int V>
__device__ Held<Q, V> cast_columns(const Held<T, V>& x, const ArrayPack<V>& scale,
                                   const Fp8Counters& counters) {
  Held<Q, V> codes;
  KOIOS_UNROLL
  for (int i = 0; i < kHeldRows; ++i) {
    const auto scaled = unpack(x.row[i]) * scale;
    counters.template scaled<Q>(scaled);
    codes.row[i] = encode<Q>(scaled);
  }
  return codes;
}

/// Turns a tile of 8-bit values, in shared memory. A column is words of four rows. Sixteen bytes
/// are the unit of reading, and their place within the column depends on the column, so that
/// neither writing words nor reading units meets a bank twice.
template <class Q, class Place>
struct TurnedTile {
  static constexpr int V = Place::V;
  static constexpr int kWords = Place::kRows / kHeldRows;
  alignas(16) std::uint32_t words[Place::kColumns * kWords];

  __device__ void take(const Place& at, int part, const Held<Q, V>& codes) {
    std::uint32_t* const first = words + index(at.column_of(part), at.row);
    KOIOS_UNROLL
    for (int j = 0; j < V; j += 4) {
      const auto row = [&](int i) { return codes.row[i].word[j / 4]; };
      // Bytes of two rows in turn, then of four.
      const std::uint32_t low01 = __byte_perm(row(0), row(1), 0x5140);
      const std::uint32_t low23 = __byte_perm(row(2), row(3), 0x5140);
      const std::uint32_t high01 = __byte_perm(row(0), row(1), 0x7362);
      const std::uint32_t high23 = __byte_perm(row(2), row(3), 0x7362);
      first[j * kWords] = __byte_perm(low01, low23, 0x5410);
      first[(j + 1) * kWords] = __byte_perm(low01, low23, 0x7632);
      first[(j + 2) * kWords] = __byte_perm(high01, high23, 0x5410);
      first[(j + 3) * kWords] = __byte_perm(high01, high23, 0x7632);
    }
  }

  /// After a barrier: to the transpose.
  template <bool kPacks>
  __device__ void write(const Place& at, Ref<Q, 2> q_KN) const {
    constexpr int kUnit = 16;
    constexpr int kUnits = Place::kRows / kUnit;
    const int row = at.rank % kUnits * kUnit;
    KOIOS_UNROLL
    for (int column = at.rank / kUnits; column < Place::kColumns;
         column += Place::kThreads / kUnits) {
      if (at.start.k + column >= q_KN.extent[0]) continue;
      const uint4 unit = *reinterpret_cast<const uint4*>(&words[index(column, row)]);
      put<kPacks>(q_KN, at.start.k + column, at.start.n + row,
                  Words<Q, kUnit>{{unit.x, unit.y, unit.z, unit.w}});
    }
  }

 private:
  __device__ static int index(int column, int row) {
    const int word = row / kHeldRows;
    return column * kWords + ((word / 4) ^ (column / V % kGroup)) * 4 + word % 4;
  }
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
  const auto run = [&]<bool kPacks>(std::bool_constant<kPacks>) {
    using B = Body<kPacks>;
    using Place = typename B::Place;
    cuda_teams<Place::kThreads, B::kResident>(
        exec, label, count_tiles(x, Place::kColumns, Place::kRows), B{arguments...});
  };
  if (packs) {
    run(std::true_type{});
  } else {
    run(std::false_type{});
  }
}

#endif

}  // namespace koios::detail
