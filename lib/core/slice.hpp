// Which elements are meant: consecutive ones of an array, or rows and columns of a matrix.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace koios {

/// The elements [first, first + count) of an array; or rows, bytes, whatever is counted.
struct Range {
  std::int64_t first = 0;
  std::int64_t count = 0;

  std::int64_t end() const { return first + count; }
  /// The same elements, numbered from another one on.
  Range from(std::int64_t origin) const { return {first - origin, count}; }

  bool operator==(const Range&) const = default;
};

/// What is in both.
inline Range intersect(const Range& a, const Range& b) {
  const std::int64_t end = std::min(a.end(), b.end());
  const std::int64_t first = std::min(std::max(a.first, b.first), end);
  return {first, end - first};
}

/// The range from its first element on in pieces of `size`; the last may be smaller.
inline std::vector<Range> in_pieces(const Range& whole, std::int64_t size) {
  std::vector<Range> pieces;
  for (std::int64_t first = whole.first; first < whole.end(); first += size) {
    pieces.push_back(intersect({first, size}, whole));
  }
  return pieces;
}

/// A rectangle of a matrix. Of a vector: rows of one column.
struct Slice {
  Range rows;
  Range cols;

  std::int64_t size() const { return rows.count * cols.count; }
};

}  // namespace koios
