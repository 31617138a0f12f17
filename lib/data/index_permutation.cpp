#include "data/index_permutation.hpp"

#include <bit>

#include "core/error.hpp"
#include "core/random.hpp"

namespace koios {
namespace {

constexpr std::uint64_t kRounds = 8;

/// A Feistel network on two halves of `half_bits` each: a bijection, whatever the round function.
std::uint64_t shuffle_bits(std::uint64_t value, int half_bits, std::uint64_t key) {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::uint64_t left = value >> half_bits;
  std::uint64_t right = value & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t next = left ^ (mix64(key + (right << 4) + round) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits) | right;
}

}  // namespace

IndexPermutation::IndexPermutation(std::int64_t size, std::uint64_t key)
    : size_(static_cast<std::uint64_t>(size)), key_(mix64(key)) {
  KOIOS_REQUIRE(size > 0, "a permutation of ", size);
  half_bits_ = (std::bit_width(size_ - 1) + 1) / 2;
}

std::int64_t IndexPermutation::operator()(std::int64_t index) const {
  auto value = static_cast<std::uint64_t>(index);
  KOIOS_REQUIRE(value < size_, index, " of ", size_);
  // The network permutes up to four times as many numbers; from one that is too large it is walked
  // on until it comes back among ours, which is again a bijection.
  do {
    value = shuffle_bits(value, half_bits_, key_);
  } while (value >= size_);
  return static_cast<std::int64_t>(value);
}

}  // namespace koios
