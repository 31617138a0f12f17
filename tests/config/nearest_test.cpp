// Which name a slip of the pen meant.
#include "config/nearest.hpp"

#include <gtest/gtest.h>

namespace koios {
namespace {

TEST(Nearest, distances) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("steps", "setps"), 1);  // one swap
  EXPECT_EQ(edit_distance("AdamW", "adamw"), 0);
  EXPECT_EQ(edit_distance("sequence_len", "seq_len"), 5);
}

TEST(Nearest, names) {
  const std::vector<std::string> keys = {"batch_size", "seq_len", "steps", "lr", "eps"};
  EXPECT_EQ(nearest_name("sequence_len", keys), "seq_len");
  EXPECT_EQ(nearest_name("step", keys), "steps");
  EXPECT_EQ(nearest_name("batchsize", keys), "batch_size");
  EXPECT_EQ(nearest_name("learning_rate", keys), "");  // nothing is near
  EXPECT_EQ(nearest_name("lr", {}), "");
}

}  // namespace
}  // namespace koios
