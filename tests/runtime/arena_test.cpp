#include "runtime/arena.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "core/dtype.hpp"

namespace koios {
namespace {

struct Layout {
  Ref<float, 2> weights;
  Ref<bf16, 1> gathered;
  Ref<float, 1> more_weights;
};

/// Stands for the code that lays out a model: it runs on the planner and on the real arena.
Layout lay_out(Arena& arena) {
  return {arena.take<float>("weights", 3, 5), arena.take<bf16>("gather", 1001),
          arena.take<float>("weights", 64)};
}

TEST(Arena, the_plan_is_what_is_taken) {
  Arena planner = Arena::planner(Backend::host);
  const Layout planned = lay_out(planner);
  EXPECT_TRUE(planner.is_planner());
  EXPECT_EQ(planned.weights.data, nullptr);
  EXPECT_EQ(planned.weights.extent[0], 3);
  EXPECT_EQ(planned.weights.pitch, 5);

  const MemoryPlan plan = planner.taken();
  ASSERT_EQ(plan.lines.size(), 2U);
  EXPECT_EQ(plan.lines[0].label, "weights");
  EXPECT_EQ(plan.lines[0].bytes, 256 + 256);
  EXPECT_EQ(plan.lines[1].label, "gather");
  EXPECT_EQ(plan.lines[1].bytes, 2048);
  EXPECT_EQ(plan.total_bytes, 2560);

  Arena arena(Backend::host, plan);
  const Layout real = lay_out(arena);
  EXPECT_FALSE(arena.is_planner());
  EXPECT_EQ(arena.taken().total_bytes, plan.total_bytes);
  const auto* start = reinterpret_cast<const char*>(real.weights.data);
  EXPECT_EQ(reinterpret_cast<const char*>(real.gathered.data) - start, 256);
  EXPECT_EQ(reinterpret_cast<const char*>(real.more_weights.data) - start, 256 + 2048);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(start) % Arena::kAlignment, 0U);
}

TEST(Arena, memory_is_zero_and_writable_to_its_last_byte) {
  Arena planner = Arena::planner(Backend::host);
  planner.take<float>("all", 3'000'000);
  Arena arena(Backend::host, planner.taken());
  const auto all = arena.take<float>("all", 3'000'000);
  double sum = 0;
  for (std::int64_t i = 0; i < all.size(); ++i) sum += all[i] != 0;
  EXPECT_EQ(sum, 0);
  all[all.size() - 1] = 1;
  Arena moved = std::move(arena);
  EXPECT_EQ(all[all.size() - 1], 1);
}

TEST(Arena, taking_more_than_planned_is_a_defect) {
  Arena planner = Arena::planner(Backend::host);
  planner.take<float>("weights", 64);
  Arena arena(Backend::host, planner.taken());
  arena.take<float>("weights", 64);
  EXPECT_THROW(arena.take<float>("weights", 1), InvariantError);
}

TEST(Arena, a_plan_that_does_not_fit_says_what_to_change) {
  const MemoryPlan plan{{{"weights", std::int64_t{1} << 50}}, std::int64_t{1} << 50};
  try {
    Arena arena(Backend::host, plan, "use less");
    FAIL() << "1 PiB fits?";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("needs 1048576.000 GiB per rank"), std::string::npos) << text;
    EXPECT_TRUE(text.ends_with(" is free: use less")) << text;
  }
}

TEST(Arena, an_empty_plan_is_an_arena) {
  Arena arena(Backend::host, MemoryPlan{});
  EXPECT_FALSE(arena.is_planner());
  EXPECT_EQ(arena.take<float>("nothing", 0).size(), 0);
}

}  // namespace
}  // namespace koios
