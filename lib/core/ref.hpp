// Ref<T, R>: a borrowed, row-major array of rank R with a row pitch. It travels by value through
// every kernel call and into device code; it never owns. AnyRef is what communicators and
// checkpoints see: contiguous memory of a run-time type.
#pragma once

#include <cstdint>

#include "core/dtype.hpp"
#include "core/error.hpp"
#include "core/host_device.hpp"
#include "core/slice.hpp"

namespace koios {

/// Rows are the last dimension and contiguous; row (i, j, ..) starts at flattened index * pitch.
template <class T, int R>
struct Ref {
  static_assert(R >= 1 && R <= 4);

  T* data = nullptr;
  std::int64_t extent[R] = {};
  std::int64_t pitch = 0;  // elements between the starts of neighbouring rows

  /// Elements in one row.
  KOIOS_HOST_DEVICE std::int64_t row_size() const { return extent[R - 1]; }
  /// Product of all extents but the last.
  KOIOS_HOST_DEVICE std::int64_t rows() const {
    std::int64_t n = 1;
    for (int d = 0; d + 1 < R; ++d) n *= extent[d];
    return n;
  }
  KOIOS_HOST_DEVICE std::int64_t size() const { return rows() * row_size(); }
  KOIOS_HOST_DEVICE bool is_contiguous() const { return R == 1 || pitch == row_size(); }
  KOIOS_HOST_DEVICE T* row(std::int64_t flat_row) const { return data + flat_row * pitch; }

  KOIOS_HOST_DEVICE T& operator[](std::int64_t i) const requires(R == 1) { return data[i]; }
  KOIOS_HOST_DEVICE T& operator()(std::int64_t i, std::int64_t j) const requires(R == 2) {
    return data[i * pitch + j];
  }

  /// Mutable to const. (A template, because nvcc warns of a conversion to the same type.)
  template <class U>
  requires(std::is_same_v<U, T> && !std::is_const_v<T>) KOIOS_HOST_DEVICE operator Ref<const U, R>()
      const {  // NOLINT(google-explicit-constructor)
    Ref<const U, R> r;
    r.data = data;
    for (int d = 0; d < R; ++d) r.extent[d] = extent[d];
    r.pitch = pitch;
    return r;
  }
};

/// A contiguous array of the given extents at `data`.
template <class T, class... Extents>
KOIOS_HOST_DEVICE Ref<T, static_cast<int>(sizeof...(Extents))> make_ref(T* data,
                                                                        Extents... extents) {
  constexpr int kRank = static_cast<int>(sizeof...(Extents));
  Ref<T, kRank> r{data, {static_cast<std::int64_t>(extents)...}, 0};
  r.pitch = r.row_size();
  return r;
}

/// Rows [first, first + count) of a matrix.
template <class T>
Ref<T, 2> row_range(Ref<T, 2> m, std::int64_t first, std::int64_t count) {
  KOIOS_REQUIRE(first >= 0 && count >= 0 && first + count <= m.extent[0], first, "+", count, " of ",
                m.extent[0], " rows");
  return {m.row(first), {count, m.extent[1]}, m.pitch};
}

template <class T>
Ref<T, 2> row_range(Ref<T, 2> m, const Range& rows) {
  return row_range(m, rows.first, rows.count);
}

/// Columns [first, first + count) of a matrix: the same pitch, shorter rows.
template <class T>
Ref<T, 2> column_range(Ref<T, 2> m, std::int64_t first, std::int64_t count) {
  KOIOS_REQUIRE(first >= 0 && count >= 0 && first + count <= m.extent[1], first, "+", count, " of ",
                m.extent[1], " columns");
  return {m.data + first, {m.extent[0], count}, m.pitch};
}

/// Elements [first, first + count) of a vector.
template <class T>
Ref<T, 1> slice(Ref<T, 1> v, std::int64_t first, std::int64_t count) {
  KOIOS_REQUIRE(first >= 0 && count >= 0 && first + count <= v.extent[0], first, "+", count, " of ",
                v.extent[0], " elements");
  return make_ref(v.data + first, count);
}
template <class T>
Ref<T, 1> slice(Ref<T, 1> v, const Range& range) {
  return slice(v, range.first, range.count);
}

/// Contiguous memory of a run-time type, flattened.
struct AnyRef {
  void* data = nullptr;
  std::int64_t count = 0;
  DType dtype = DType::float32;

  std::int64_t size() const { return count; }
  std::int64_t bytes() const { return count * size_of(dtype); }
  /// Of element i.
  void* at(std::int64_t i) const { return static_cast<char*>(data) + i * size_of(dtype); }
  template <class T>
  Ref<T, 1> as() const {
    KOIOS_REQUIRE(dtype == dtype_of<T>, to_string(dtype), " taken for ", to_string(dtype_of<T>));
    return make_ref(static_cast<T*>(data), count);
  }
};

inline AnyRef slice(const AnyRef& v, const Range& range) {
  KOIOS_REQUIRE(range.first >= 0 && range.count >= 0 && range.end() <= v.count, range.first, "+",
                range.count, " of ", v.count, " elements");
  return {v.at(range.first), range.count, v.dtype};
}

template <class T, int R>
AnyRef any(Ref<T, R> r) {
  KOIOS_REQUIRE(r.is_contiguous(), "communication and checkpoints need contiguous memory");
  return {const_cast<std::remove_const_t<T>*>(r.data), r.size(), dtype_of<T>};
}

}  // namespace koios
