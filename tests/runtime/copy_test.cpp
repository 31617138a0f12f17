#include "runtime/copy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace koios {
namespace {

TEST(Copy, completes_what_is_outstanding_first) {
  Stream stream(Backend::host, "test");
  std::array<float, 3> source = {0, 0, 0};
  std::array<float, 3> target = {9, 9, 9};
  const AnyRef from = any(make_ref(source.data(), 3));
  stream.defer([&] { std::fill(source.begin(), source.end(), 5.0F); }, {{from}});
  copy(stream, any(make_ref(target.data(), 3)), from);
  EXPECT_EQ(target, (std::array<float, 3>{5, 5, 5}));
  fill_zero(stream, any(make_ref(target.data(), 2)));
  EXPECT_EQ(target, (std::array<float, 3>{0, 0, 5}));
}

TEST(Copy, sizes_and_types_must_agree) {
  Stream stream(Backend::host, "test");
  std::array<float, 3> data = {};
  std::array<std::int32_t, 3> integers = {};
  EXPECT_THROW(copy(stream, any(make_ref(data.data(), 2)), any(make_ref(data.data(), 3))),
               InvariantError);
  EXPECT_THROW(copy(stream, any(make_ref(data.data(), 3)), any(make_ref(integers.data(), 3))),
               InvariantError);
}

TEST(PinnedBuffer, moves) {
  PinnedBuffer buffer(Backend::host, 100);
  static_cast<char*>(buffer.data())[99] = 'x';
  PinnedBuffer other;
  other = std::move(buffer);
  EXPECT_EQ(other.bytes(), 100);
  EXPECT_EQ(static_cast<char*>(other.data())[99], 'x');
}

}  // namespace
}  // namespace koios
