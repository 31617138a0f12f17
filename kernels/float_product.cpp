// Blocked for the caches as in Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication" (2008):
//   tile    rows and columns of c whose sums stay in registers
//   panel   the columns of b that a tile needs, kPanelDepth rows of them, packed in the order in
//           which the tile reads them
//   chunk   the panels that are packed at once, by all threads, before all multiply with them
//   block   the rows of c that one thread takes at a time
// Rows of a are read where they lie, unless they are columns in memory, or not float, or too few
// for a tile: then the thread packs them.
#include "kernels/detail/float_product.hpp"

#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "kernels/detail/host_parallel.hpp"
#include "kernels/detail/host_simd.hpp"

namespace koios::detail {
namespace {

// AVX-512 has 32 registers, of which 24 hold sums; of 16 these are 12.
constexpr int kRows = kLanes == 16 ? 8 : 6;
constexpr int kVectors = kLanes == 16 ? 3 : 2;
constexpr std::int64_t kWidth = kVectors * kLanes;
constexpr std::int64_t kPanelDepth = 256;
constexpr std::int64_t kBlockRows = 8 * kRows;
constexpr std::int64_t kChunkDepth = 8 * kPanelDepth;
constexpr std::int64_t kChunkColumns = 1024 / kWidth * kWidth;
static_assert(kChunkDepth * kWidth <= kPackedFloats &&
              kPanelDepth * kChunkColumns <= kPackedFloats);

// ---- tiles --------------------------------------------------------------------------------------

/// kRows rows of a, as they lie in memory.
struct RowsInPlace {
  const float* data;
  std::int64_t pitch;
  float at(std::int64_t i, std::int64_t l) const { return data[i * pitch + l]; }
};

/// The same, packed.
struct PackedRows {
  const float* data;
  float at(std::int64_t i, std::int64_t l) const { return data[l * kRows + i]; }
};

struct TileOutput {
  float* c;
  std::int64_t pitch;
  float scale;
  bool accumulate;
};

/// c is asked for at the beginning and read at the end: it would hold up the sums.
template <int Vectors, class Rows>
void multiply_tile(const TileOutput& out, const Rows& a, const float* panel, std::int64_t depth) {
  Vec sum[kRows][Vectors] = {};
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t j = 0; j < Vectors * kLanes; j += 16) {
      __builtin_prefetch(out.c + i * out.pitch + j, 1);
    }
  }
#pragma GCC unroll 2
  for (std::int64_t l = 0; l < depth; ++l, panel += Vectors * kLanes) {
    Vec right[Vectors];
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) right[j] = load(panel + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vec left = broadcast(a.at(i, l));
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; ++j) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) {
      float* c = out.c + i * out.pitch + j * kLanes;
      const Vec scaled = out.scale * sum[i][j];
      store(c, out.accumulate ? load(c) + scaled : scaled);
    }
  }
}

template <class Rows>
void multiply_panel(const TileOutput& out, const Rows& a, const float* panel, std::int64_t vectors,
                    std::int64_t depth) {
  static_assert(kVectors <= 3);
  switch (vectors) {
    case 1:
      return multiply_tile<1>(out, a, panel, depth);
    case 2:
      return multiply_tile<2>(out, a, panel, depth);
    default:
      return multiply_tile<kVectors>(out, a, panel, depth);
  }
}

/// Where fewer rows or columns are there than a tile has: by way of a whole tile.
template <class Rows>
void multiply_partial_tile(const TileOutput& out, std::int64_t rows, std::int64_t columns,
                           const Rows& a, const float* panel, std::int64_t vectors,
                           std::int64_t depth) {
  alignas(64) float whole[kRows * kWidth];
  multiply_panel({whole, kWidth, out.scale, false}, a, panel, vectors, depth);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      float& c = out.c[i * out.pitch + j];
      c = out.accumulate ? c + whole[i * kWidth + j] : whole[i * kWidth + j];
    }
  }
}

// ---- packing ------------------------------------------------------------------------------------

/// Part of an operand: rows and columns count from its first.
struct Part {
  std::int64_t row, column;
  std::int64_t rows, columns;
};

/// Columns of b, zeros up to whole vectors.
template <class T>
void pack_panel(float* to, const ProductOperand& b, const Part& part) {
  const auto* data = static_cast<const T*>(b.data);
  const std::int64_t width = round_up(part.columns, kLanes);
  if (!b.transposed) {
    for (std::int64_t l = 0; l < part.rows; ++l, to += width) {
      const T* row = data + (part.row + l) * b.pitch + part.column;
      for (std::int64_t j = 0; j < width; j += kLanes)
        store(to + j, load_part(row, j, part.columns));
    }
    return;
  }
  for (std::int64_t j = 0; j < width; j += kLanes) {
    for (std::int64_t l = 0; l < part.rows; l += kLanes) {
      Vec square[kLanes];
      for (std::int64_t k = 0; k < kLanes; ++k) {
        const T* row = data + (part.column + j + k) * b.pitch + part.row;
        square[k] = j + k < part.columns ? load_part(row, l, part.rows) : Vec{};
      }
      transpose(square);
      const std::int64_t count = std::min<std::int64_t>(kLanes, part.rows - l);
      for (std::int64_t k = 0; k < count; ++k) store(to + (l + k) * width + j, square[k]);
    }
  }
}

/// Floats that `rows`, whole tiles, take when packed. Two tiles lie a line more apart than a power
/// of two, for they are written side by side and would share a set of the cache.
constexpr std::int64_t packed_size(std::int64_t rows, std::int64_t depth) {
  return rows / kRows * (kRows * depth + 16);
}

/// Rows of a, kRows together, zeros up to whole tiles.
template <class T>
void pack_rows(float* to, const ProductOperand& a, const Part& part) {
  constexpr std::int64_t kAhead = 8;  // columns, which may lie far from each other
  const std::int64_t row_step = a.transposed ? 1 : a.pitch;
  const std::int64_t column_step = a.transposed ? a.pitch : 1;
  const std::int64_t whole = a.transposed ? part.rows / kRows * kRows : 0;
  const std::int64_t tile_size = packed_size(kRows, part.columns);
  const T* column = static_cast<const T*>(a.data) + part.row * row_step + part.column * column_step;
  for (std::int64_t l = 0; l < part.columns; ++l, column += column_step, to += kRows) {
    float* tile = to;
    for (std::int64_t i = 0; i < whole; i += kRows, tile += tile_size) {
      __builtin_prefetch(column + kAhead * column_step + i);
      float values[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) values[r] = static_cast<float>(column[i + r]);
      std::memcpy(tile, values, sizeof(values));
    }
    for (std::int64_t i = whole; i < part.rows; i += kRows, tile += tile_size) {
      for (std::int64_t r = 0; r < kRows; ++r) {
        tile[r] = i + r < part.rows ? static_cast<float>(column[(i + r) * row_step]) : 0.0F;
      }
    }
  }
}

// ---- chunks -------------------------------------------------------------------------------------

/// Rows [row, row + depth) and columns [column, column + columns) of b, packed.
class Chunk {
 public:
  Chunk(const ProductOperand& b, const Part& part, float* packed)
      : b_(b), part_(part), packed_(packed) {}

  std::int64_t panels() const { return ceil_div(part_.columns, kWidth); }
  std::int64_t layers() const { return ceil_div(part_.rows, kPanelDepth); }
  std::int64_t depth(std::int64_t layer) const {
    return std::min(kPanelDepth, part_.rows - layer * kPanelDepth);
  }
  std::int64_t columns(std::int64_t panel) const {
    return std::min(kWidth, part_.columns - panel * kWidth);
  }
  float* at(std::int64_t layer, std::int64_t panel) const {
    return packed_ + layer * kPanelDepth * round_up(part_.columns, kLanes) +
           panel * kWidth * depth(layer);
  }

  void pack() const {
    host_parallel_for("product_pack", layers() * panels(), [this](std::int64_t i) {
      const std::int64_t layer = i / panels();
      const std::int64_t panel = i % panels();
      const Part part{part_.row + layer * kPanelDepth, part_.column + panel * kWidth, depth(layer),
                      columns(panel)};
      b_.dtype == DType::float32 ? pack_panel<float>(at(layer, panel), b_, part)
                                 : pack_panel<bf16>(at(layer, panel), b_, part);
    });
  }

 private:
  const ProductOperand& b_;
  Part part_;
  float* packed_;
};

/// Brings the rows of a that come next into the cache while other rows are multiplied.
void prefetch_rows(const RowsInPlace& next, std::int64_t depth, std::int64_t share,
                   std::int64_t shares) {
  constexpr std::int64_t kLine = 16;
  const std::int64_t lines = ceil_div(depth, kLine);
  const std::int64_t each = ceil_div(kRows * lines, shares);
  for (std::int64_t k = share * each; k < std::min(kRows * lines, (share + 1) * each); ++k) {
    __builtin_prefetch(next.data + k / lines * next.pitch + k % lines * kLine);
  }
}

/// What one thread does at a time: rows of a by panels [first_panel, end_panel) of the chunk.
/// row: of the part of c and of a; column, first: where the chunk lies.
struct Task {
  std::int64_t row, rows;
  std::int64_t first_panel, end_panel;
};

void multiply_block(const FloatProduct& p, const Chunk& chunk, const Part& place,
                    const Task& task) {
  alignas(64) float packed_rows[packed_size(kBlockRows, kPanelDepth)];
  const bool in_place = !p.a.transposed && p.a.dtype == DType::float32;
  for (std::int64_t layer = 0; layer < chunk.layers(); ++layer) {
    const std::int64_t first = place.row + layer * kPanelDepth;
    const std::int64_t depth = chunk.depth(layer);
    const auto pack = [&](std::int64_t i, std::int64_t rows) {
      float* to = packed_rows + packed_size(i, depth);
      const Part part{task.row + i, first, rows, depth};
      p.a.dtype == DType::float32 ? pack_rows<float>(to, p.a, part)
                                  : pack_rows<bf16>(to, p.a, part);
    };
    if (!in_place) pack(0, task.rows);
    for (std::int64_t i = 0; i < task.rows; i += kRows) {
      const std::int64_t rows = std::min<std::int64_t>(kRows, task.rows - i);
      if (in_place && rows < kRows) pack(i, rows);
      const bool reads_in_place = in_place && rows == kRows;
      const PackedRows packed{packed_rows + packed_size(i, depth)};
      const auto* a = static_cast<const float*>(p.a.data);
      const RowsInPlace own{a + (task.row + i) * p.a.pitch + first, p.a.pitch};
      const RowsInPlace next{own.data + kRows * p.a.pitch, p.a.pitch};
      const bool has_next = in_place && task.row + i + 2 * kRows <= p.rows;
      for (std::int64_t panel = task.first_panel; panel < task.end_panel; ++panel) {
        if (has_next) {
          prefetch_rows(next, depth, panel - task.first_panel, task.end_panel - task.first_panel);
        }
        const std::int64_t columns = chunk.columns(panel);
        const std::int64_t vectors = ceil_div(columns, kLanes);
        const float* right = chunk.at(layer, panel);
        const TileOutput out{p.c + (task.row + i) * p.c_pitch + place.column + panel * kWidth,
                             p.c_pitch, p.scale, p.accumulate || first > 0};
        if (rows < kRows || columns < vectors * kLanes) {
          if (reads_in_place) {
            multiply_partial_tile(out, rows, columns, own, right, vectors, depth);
          } else {
            multiply_partial_tile(out, rows, columns, packed, right, vectors, depth);
          }
        } else if (reads_in_place) {
          multiply_panel(out, own, right, vectors, depth);
        } else {
          multiply_panel(out, packed, right, vectors, depth);
        }
      }
    }
  }
}

void multiply_chunk(const FloatProduct& p, const Chunk& chunk, const Part& place) {
  constexpr std::int64_t kTasksOfThread = 2;
  const std::int64_t blocks = ceil_div(p.rows, kBlockRows);
  const std::int64_t groups =
      std::clamp<std::int64_t>(kTasksOfThread * host_concurrency() / blocks, 1, chunk.panels());
  const std::int64_t together = ceil_div(chunk.panels(), groups);
  host_parallel_for("product", blocks * groups, [&](std::int64_t k) {
    const std::int64_t row = k / groups * kBlockRows;
    const std::int64_t panel = k % groups * together;
    multiply_block(p, chunk, place,
                   {row, std::min(kBlockRows, p.rows - row), panel,
                    std::min(chunk.panels(), panel + together)});
  });
}

}  // namespace

void float_product(const FloatProduct& p, float* packed) {
  const std::int64_t chunk_depth = std::clamp<std::int64_t>(p.depth, 1, kChunkDepth);
  const std::int64_t chunk_columns =
      std::min(kChunkColumns, kPackedFloats / chunk_depth / kWidth * kWidth);
  for (std::int64_t column = 0; column < p.columns; column += chunk_columns) {
    std::int64_t row = 0;
    do {  // once even where there is nothing to sum, for then c is zero
      const Part part{row, column, std::min(chunk_depth, p.depth - row),
                      std::min(chunk_columns, p.columns - column)};
      const Chunk chunk(p.b, part, packed);
      chunk.pack();
      multiply_chunk(p, chunk, part);
      row += chunk_depth;
    } while (row < p.depth);
  }
}

}  // namespace koios::detail
