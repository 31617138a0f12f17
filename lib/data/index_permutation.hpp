// A permutation of 0 .. size-1 that is computed entry by entry, so that the order of any number of
// things takes no memory and a place in it is one integer.
#pragma once

#include <cstdint>

namespace koios {

class IndexPermutation {
 public:
  /// A function of its arguments only. size > 0.
  IndexPermutation(std::int64_t size, std::uint64_t key);

  std::int64_t operator()(std::int64_t index) const;

 private:
  std::uint64_t size_;
  std::uint64_t key_;
  int half_bits_;
};

}  // namespace koios
