// Casts to FP8 that also write the transpose, and transposes: all work on tiles, of which each
// element is read once. On CUDA a tile is 128 rows; a thread holds V columns of four neighbouring
// rows, so that its 8-bit values make up words of a column, and the tile is turned in shared
// memory. Both results are written in whole sectors.
#include "kernels/detail/fp8_scale.hpp"
#include "kernels/detail/launch.hpp"
#include "kernels/fp8.hpp"

namespace koios {
namespace {

using detail::ArrayImage;
using detail::ArrayPack;
using detail::ArrayWidth;
using detail::Fp8Counters;
using detail::Fp8Scaler;

constexpr std::int64_t kTileRows = kFp8Block;
constexpr std::int64_t kHostTileColumns = kFp8Block;

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
  Kokkos::parallel_for(label,
                       detail::HostRange(detail::HostExec{}, 0, count_tiles(x, kHostTileColumns)),
                       [=](std::int64_t tile) { body(tile); });
}

template <class Q>
Q scaled(float x, float scale, const Fp8Counters& counters) {
  const float value = x * scale;
  counters.scaled<Q>(ArrayPack<1>{{value}});
  return Q(value);
}

// ---- CUDA: tiles in registers and shared memory ----

#if defined(KOIOS_CUDA)

constexpr int kTileThreads = 256;
constexpr int kGroup = 8;     // threads side by side along a row
constexpr int kHeldRows = 4;  // of a thread, neighbours: the bytes of a word

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
  return detail::allows_packs(x_NK, q_NK, q_KN) && x_NK.extent[0] % 16 == 0 &&
         x_NK.extent[1] % 16 == 0;
}

/// Runs Body<kPacks> on the tiles of x.
template <template <bool> class Body, class T, class... Arguments>
void cuda_tiles(const Kokkos::Cuda& exec, const char* label, Ref<T, 2> x, bool packs,
                const Arguments&... arguments) {
  const std::int64_t tiles = count_tiles(x, Body<true>::kColumns);
  if (packs) {
    detail::cuda_teams<kTileThreads, Body<true>::kResident>(exec, label, tiles,
                                                            Body<true>{arguments...});
  } else {
    detail::cuda_teams<kTileThreads, Body<false>::kResident>(exec, label, tiles,
                                                             Body<false>{arguments...});
  }
}

template <class Q, class T>
struct CudaCast {
  template <bool kPacks>
  struct Body {
    static constexpr int V = 8;
    static constexpr std::int64_t kColumns = Place<V>::kColumns;
    static constexpr int kResident = 4;
    Ref<Q, 2> q_NK, q_KN;
    Ref<const T, 2> x;
    Fp8Scaler<Q> of_rows, of_columns;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ __align__(16) std::uint32_t words[kColumns * TurnedTile<Q, V>::kWords];
      TurnedTile<Q, V> turned(words);
      const TileStart start(tile, x.extent[1], kColumns);
      const Place<V> place(rank);
      const std::int64_t n = start.n + place.row;
      const std::int64_t k = start.k + place.column;
      ArrayImage<T, V> row[kHeldRows];
      KOIOS_UNROLL
      for (int i = 0; i < kHeldRows; ++i) row[i] = fetch<V, kPacks>(x, n + i, k);
      ArrayPack<V> column_scale;
      if (of_columns.by_row) {
        column_scale = detail::generate(ArrayWidth<V>{}, [&](int j) {
          return k + j < x.extent[1] ? of_columns.scale(k + j) : 0.0F;
        });
      }
      ArrayImage<Q, V> codes[kHeldRows];
      KOIOS_UNROLL
      for (int i = 0; i < kHeldRows; ++i) {
        const bool inside = n + i < x.extent[0];
        const auto values = unpack(row[i]);
        const auto scaled = values * (inside ? of_rows.scale(n + i) : 0.0F);
        codes[i] = detail::pack_as<Q>(scaled);
        of_rows.counters.template scaled<Q>(scaled);
        put<V, kPacks>(q_NK, n + i, k, codes[i]);
        if (of_columns.by_row) {
          const auto for_columns = values * column_scale;
          codes[i] = detail::pack_as<Q>(for_columns);
          of_columns.counters.template scaled<Q>(for_columns);
        }
        if (inside && k == 0) of_rows.finish_row(n + i);
      }
      if (of_columns.by_row && n == 0) {
        KOIOS_UNROLL
        for (int j = 0; j < V; ++j) {
          if (k + j < x.extent[1]) of_columns.finish_row(k + j);
        }
      }
      turned.take(place, codes);
      __syncthreads();
      turned.template write<kPacks>(q_KN, start.n, start.k, rank);
#endif
    }
  };
};

template <class Q>
struct CudaTranspose {
  template <bool kPacks>
  struct Body {
    static constexpr int V = 16;
    static constexpr std::int64_t kColumns = Place<V>::kColumns;
    static constexpr int kResident = 4;
    Ref<Q, 2> q_KN;
    Ref<const Q, 2> q_NK;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ __align__(16) std::uint32_t words[kColumns * TurnedTile<Q, V>::kWords];
      TurnedTile<Q, V> turned(words);
      const TileStart start(tile, q_NK.extent[1], kColumns);
      const Place<V> place(rank);
      ArrayImage<Q, V> codes[kHeldRows];
      KOIOS_UNROLL
      for (int i = 0; i < kHeldRows; ++i) {
        codes[i] = fetch<V, kPacks>(q_NK, start.n + place.row + i, start.k + place.column);
      }
      turned.take(place, codes);
      __syncthreads();
      turned.template write<kPacks>(q_KN, start.n, start.k, rank);
#endif
    }
  };
};

/// kSquare: one scale for 128 x 128; otherwise one for each row of the tile and one for each
/// column.
template <class Q, class T, bool kSquare>
struct CudaBlockCast {
  template <bool kPacks>
  struct Body {
    static constexpr int V = 8;
    static constexpr int kHalves = 2;  // a tile is two of the tiles that are turned, side by side
    static constexpr std::int64_t kColumns = kHalves * Place<V>::kColumns;
    static_assert(kColumns == kFp8Block);
    static constexpr int kResident = 2;
    static constexpr int kWarps = kTileThreads / detail::kWarp;
    Ref<Q, 2> q_NK;
    Ref<float, 2> inverse_row;
    Ref<Q, 2> q_KN;
    Ref<float, 2> inverse_column;
    Ref<const T, 2> x;
    Fp8Counters counters;

    KOKKOS_FUNCTION void operator()([[maybe_unused]] std::int64_t tile,
                                    [[maybe_unused]] int rank) const {
#if defined(__CUDA_ARCH__)
      __shared__ __align__(16) std::uint32_t words[Place<V>::kColumns * TurnedTile<Q, V>::kWords];
      __shared__ float of_warp[kWarps][kColumns];
      TurnedTile<Q, V> turned(words);
      const TileStart start(tile, x.extent[1], kColumns);
      const Place<V> place(rank);
      const std::int64_t n = start.n + place.row;
      const auto k = [&](int half) { return start.k + half * Place<V>::kColumns + place.column; };

      ArrayImage<T, V> held[kHalves][kHeldRows];
      KOIOS_UNROLL
      for (int half = 0; half < kHalves; ++half) {
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) held[half][i] = fetch<V, kPacks>(x, n + i, k(half));
      }

      float row_amax[kHeldRows] = {};
      ArrayPack<V> column_amax[kHalves];
      KOIOS_UNROLL
      for (int half = 0; half < kHalves; ++half) {
        column_amax[half] = detail::filled(ArrayWidth<V>{}, 0.0F);
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) {
          const auto values = unpack(held[half][i]);
          row_amax[i] = detail::larger_magnitude(row_amax[i], largest_magnitude(values));
          column_amax[half] = larger_magnitude(column_amax[half], values);
        }
      }
      if constexpr (kSquare) {
        float mine = 0;
        for (const float of_row : row_amax) mine = detail::larger_magnitude(mine, of_row);
        mine = detail::across_threads<kTileThreads>(mine, rank, detail::LargerMagnitude{});
        for (float& of_row : row_amax) of_row = mine;
      } else {
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) {
          KOIOS_UNROLL
          for (int distance = kGroup / 2; distance > 0; distance /= 2) {
            row_amax[i] = detail::larger_magnitude(
                row_amax[i], __shfl_xor_sync(0xffffffffU, row_amax[i], distance));
          }
        }
        // The threads of a warp that hold the same columns, then the warps.
        KOIOS_UNROLL
        for (int half = 0; half < kHalves; ++half) {
          KOIOS_UNROLL
          for (int j = 0; j < V; ++j) {
            float& largest = column_amax[half].v[j];
            KOIOS_UNROLL
            for (int distance = kGroup; distance < detail::kWarp; distance *= 2) {
              largest = detail::larger_magnitude(largest,
                                                 __shfl_xor_sync(0xffffffffU, largest, distance));
            }
            if (rank % detail::kWarp < kGroup) {
              of_warp[rank / detail::kWarp][half * Place<V>::kColumns + place.column + j] = largest;
            }
          }
        }
        __syncthreads();
        KOIOS_UNROLL
        for (int half = 0; half < kHalves; ++half) {
          KOIOS_UNROLL
          for (int j = 0; j < V; ++j) {
            float largest = 0;
            KOIOS_UNROLL
            for (int w = 0; w < kWarps; ++w) {
              largest = detail::larger_magnitude(
                  largest, of_warp[w][half * Place<V>::kColumns + place.column + j]);
            }
            column_amax[half].v[j] = largest;
          }
        }
      }

      float row_scale[kHeldRows];
      KOIOS_UNROLL
      for (int i = 0; i < kHeldRows; ++i) row_scale[i] = detail::fp8_scale<Q>(row_amax[i], false);
      if constexpr (kSquare) {
        if (rank == 0) {
          const float inverse = 1.0F / row_scale[0];
          inverse_row(start.n / kFp8Block, start.k / kFp8Block) = inverse;
          inverse_column(start.k / kFp8Block, start.n / kFp8Block) = inverse;
          counters.scale_of(row_amax[0]);
        }
      } else if (rank % kGroup == 0) {
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) {
          if (n + i >= x.extent[0]) continue;
          inverse_row(start.k / kFp8Block, n + i) = 1.0F / row_scale[i];
          counters.scale_of(row_amax[i]);
        }
      }

      KOIOS_UNROLL
      for (int half = 0; half < kHalves; ++half) {
        ArrayPack<V> column_scale;
        if constexpr (!kSquare) {
          column_scale = detail::generate(ArrayWidth<V>{}, [&](int j) {
            return detail::fp8_scale<Q>(column_amax[half].v[j], false);
          });
          if (place.row == 0) {
            KOIOS_UNROLL
            for (int j = 0; j < V; ++j) {
              if (k(half) + j >= x.extent[1]) continue;
              inverse_column(start.n / kFp8Block, k(half) + j) = 1.0F / column_scale.v[j];
              counters.scale_of(column_amax[half].v[j]);
            }
          }
        }
        ArrayImage<Q, V> codes[kHeldRows];
        KOIOS_UNROLL
        for (int i = 0; i < kHeldRows; ++i) {
          const auto values = unpack(held[half][i]);
          codes[i] = detail::pack_as<Q>(values * row_scale[i]);
          put<V, kPacks>(q_NK, n + i, k(half), codes[i]);
          if constexpr (!kSquare) codes[i] = detail::pack_as<Q>(values * column_scale);
        }
        if (half > 0) __syncthreads();  // the first half is read
        turned.take(place, codes);
        __syncthreads();
        turned.template write<kPacks>(q_KN, start.n, start.k + half * Place<V>::kColumns, rank);
      }
#endif
    }
  };
};

#endif

void require_block_scales(const char* name, Ref<float, 2> inverse, std::int64_t rows,
                          std::int64_t columns) {
  KOIOS_REQUIRE(inverse.extent[0] >= rows && inverse.extent[1] >= columns, name, " is ",
                inverse.extent[0], "x", inverse.extent[1], ", needed are ", rows, "x", columns);
}

void require_counters(Ref<std::int64_t, 1> counts) {
  KOIOS_REQUIRE(counts.data == nullptr || counts.extent[0] == kFp8Counts, counts.extent[0],
                " counters");
}

}  // namespace

template <class Q, class T>
void cast_to_fp8_with_transpose(Stream& s, Ref<Q, 2> q_NK, Ref<Q, 2> q_KN, Ref<const T, 2> x_NK,
                                const Fp8Scales& of_rows, const Fp8Scales& of_columns,
                                Ref<std::int64_t, 1> counts) {
  detail::require_same_shape("q", q_NK, x_NK);
  detail::require_transposed_shape(q_KN, x_NK);
  if (x_NK.size() == 0) return;
  const Fp8Scaler<Q> rows(of_rows, x_NK.extent[0], counts);
  const Fp8Scaler<Q> columns(of_columns, x_NK.extent[1], counts);
  KOIOS_REQUIRE(columns.by_row || columns.amax == rows.amax,
                "one scale for the transpose and another for the matrix");
  constexpr const char* kLabel = "cast_to_fp8_with_transpose";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        host_tiles(kLabel, x_NK, [=](std::int64_t tile) {
          each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            const auto value = static_cast<float>(x_NK(n, k));
            q_NK(n, k) = scaled<Q>(value, rows.scale(n), rows.counters);
            q_KN(k, n) =
                columns.by_row ? scaled<Q>(value, columns.scale(k), columns.counters) : q_NK(n, k);
            if (k == 0) rows.finish_row(n);
            if (n == 0 && columns.by_row) columns.finish_row(k);
          });
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        cuda_tiles<CudaCast<Q, T>::template Body>(exec, kLabel, x_NK,
                                                  tiles_allow_packs(x_NK, q_NK, q_KN), q_NK, q_KN,
                                                  x_NK, rows, columns);
#endif
      });
}

template <class Q>
void transpose_fp8(Stream& s, Ref<Q, 2> q_KN, Ref<const Q, 2> q_NK) {
  detail::require_transposed_shape(q_KN, q_NK);
  if (q_NK.size() == 0) return;
  constexpr const char* kLabel = "transpose_fp8";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        host_tiles(kLabel, q_NK, [=](std::int64_t tile) {
          each_of_tile(q_NK, tile,
                       [&](std::int64_t n, std::int64_t k) { q_KN(k, n) = q_NK(n, k); });
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        cuda_tiles<CudaTranspose<Q>::template Body>(
            exec, kLabel, q_NK, tiles_allow_packs(q_NK, q_KN, q_KN), q_KN, q_NK);
#endif
      });
}

template <class Q, class T>
void cast_to_fp8_in_pieces(Stream& s, Ref<Q, 2> q_NK, Ref<float, 2> inverse_row_BN, Ref<Q, 2> q_KN,
                           Ref<float, 2> inverse_column_BK, Ref<const T, 2> x_NK,
                           Ref<std::int64_t, 1> counts) {
  const std::int64_t N = x_NK.extent[0];
  const std::int64_t K = x_NK.extent[1];
  detail::require_same_shape("q", q_NK, x_NK);
  detail::require_transposed_shape(q_KN, x_NK);
  require_block_scales("inverse_row_BN", inverse_row_BN, ceil_div(K, kFp8Block), N);
  require_block_scales("inverse_column_BK", inverse_column_BK, ceil_div(N, kFp8Block), K);
  require_counters(counts);
  if (x_NK.size() == 0) return;
  const Fp8Counters counters{counts.data};
  constexpr const char* kLabel = "cast_to_fp8_in_pieces";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        host_tiles(kLabel, x_NK, [=](std::int64_t tile) {
          const TileStart start(tile, K, kHostTileColumns);
          float of_row[kFp8Block] = {};
          float of_column[kFp8Block] = {};
          each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            const auto value = static_cast<float>(x_NK(n, k));
            for (float* largest : {&of_row[n - start.n], &of_column[k - start.k]}) {
              *largest = detail::larger_magnitude(*largest, value);
            }
          });
          each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            const auto value = static_cast<float>(x_NK(n, k));
            const float row_scale = detail::fp8_scale<Q>(of_row[n - start.n], false);
            const float column_scale = detail::fp8_scale<Q>(of_column[k - start.k], false);
            q_NK(n, k) = Q(value * row_scale);
            q_KN(k, n) = Q(value * column_scale);
            if (k == start.k) {
              inverse_row_BN(k / kFp8Block, n) = 1.0F / row_scale;
              counters.scale_of(of_row[n - start.n]);
            }
            if (n == start.n) {
              inverse_column_BK(n / kFp8Block, k) = 1.0F / column_scale;
              counters.scale_of(of_column[k - start.k]);
            }
          });
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        cuda_tiles<CudaBlockCast<Q, T, false>::template Body>(
            exec, kLabel, x_NK, tiles_allow_packs(x_NK, q_NK, q_KN), q_NK, inverse_row_BN, q_KN,
            inverse_column_BK, x_NK, counters);
#endif
      });
}

template <class Q, class T>
void cast_to_fp8_in_squares(Stream& s, Ref<Q, 2> q_NK, Ref<float, 2> inverse_NK, Ref<Q, 2> q_KN,
                            Ref<float, 2> inverse_KN, Ref<const T, 2> x_NK,
                            Ref<std::int64_t, 1> counts) {
  const std::int64_t rows = ceil_div(x_NK.extent[0], kFp8Block);
  const std::int64_t columns = ceil_div(x_NK.extent[1], kFp8Block);
  detail::require_same_shape("q", q_NK, x_NK);
  detail::require_transposed_shape(q_KN, x_NK);
  require_block_scales("inverse_NK", inverse_NK, rows, columns);
  require_block_scales("inverse_KN", inverse_KN, columns, rows);
  require_counters(counts);
  if (x_NK.size() == 0) return;
  const Fp8Counters counters{counts.data};
  constexpr const char* kLabel = "cast_to_fp8_in_squares";
  detail::dispatch(
      s,
      [&](detail::HostExec) {
        host_tiles(kLabel, x_NK, [=](std::int64_t tile) {
          float amax = 0;
          each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            amax = detail::larger_magnitude(amax, static_cast<float>(x_NK(n, k)));
          });
          const float scale = detail::fp8_scale<Q>(amax, false);
          each_of_tile(x_NK, tile, [&](std::int64_t n, std::int64_t k) {
            q_NK(n, k) = Q(static_cast<float>(x_NK(n, k)) * scale);
            q_KN(k, n) = q_NK(n, k);
          });
          const TileStart start(tile, x_NK.extent[1], kHostTileColumns);
          inverse_NK(start.n / kFp8Block, start.k / kFp8Block) = 1.0F / scale;
          inverse_KN(start.k / kFp8Block, start.n / kFp8Block) = 1.0F / scale;
          counters.scale_of(amax);
        });
      },
      [&]([[maybe_unused]] auto exec) {
#if defined(KOIOS_CUDA)
        cuda_tiles<CudaBlockCast<Q, T, true>::template Body>(
            exec, kLabel, x_NK, tiles_allow_packs(x_NK, q_NK, q_KN), q_NK, inverse_NK, q_KN,
            inverse_KN, x_NK, counters);
#endif
      });
}

#define KOIOS_INSTANTIATE(Q, T)                                                                    \
  template void cast_to_fp8_with_transpose<Q, T>(Stream&, Ref<Q, 2>, Ref<Q, 2>, Ref<const T, 2>,   \
                                                 const Fp8Scales&, const Fp8Scales&,               \
                                                 Ref<std::int64_t, 1>);                            \
  template void cast_to_fp8_in_pieces<Q, T>(Stream&, Ref<Q, 2>, Ref<float, 2>, Ref<Q, 2>,          \
                                            Ref<float, 2>, Ref<const T, 2>, Ref<std::int64_t, 1>); \
  template void cast_to_fp8_in_squares<Q, T>(Stream&, Ref<Q, 2>, Ref<float, 2>, Ref<Q, 2>,         \
                                             Ref<float, 2>, Ref<const T, 2>,                       \
                                             Ref<std::int64_t, 1>);
KOIOS_INSTANTIATE(fp8_e4m3, float)
KOIOS_INSTANTIATE(fp8_e4m3, bf16)
KOIOS_INSTANTIATE(fp8_e5m2, float)
KOIOS_INSTANTIATE(fp8_e5m2, bf16)
#undef KOIOS_INSTANTIATE
template void transpose_fp8<fp8_e4m3>(Stream&, Ref<fp8_e4m3, 2>, Ref<const fp8_e4m3, 2>);
template void transpose_fp8<fp8_e5m2>(Stream&, Ref<fp8_e5m2, 2>, Ref<const fp8_e5m2, 2>);

}  // namespace koios
