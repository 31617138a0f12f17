#include "data/prefetcher.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <stdexcept>
#include <thread>

#include "core/stopwatch.hpp"

namespace koios {
namespace {

using namespace std::chrono_literals;

Prefetcher::Make count_up(std::atomic<int>& made, int fail_at = -1) {
  return [&made, fail_at](const std::stop_token&) -> std::optional<Batch> {
    if (made == fail_at) throw std::runtime_error("the disk is gone");
    Batch batch;
    batch.first_sample = made++;
    return batch;
  };
}

TEST(Prefetcher, delivers_in_order_and_runs_no_further_ahead_than_its_depth) {
  std::atomic<int> made = 0;
  Prefetcher prefetcher(count_up(made), 3);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(prefetcher.next().first_sample, i);
    EXPECT_LE(made, i + 1 + 3);
  }
  const Stopwatch patience;
  while (made < 53 && patience.seconds() < 10) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(made, 53);
}

TEST(Prefetcher, an_exception_comes_after_what_was_made_before_and_stays) {
  std::atomic<int> made = 0;
  Prefetcher prefetcher(count_up(made, 2), 8);
  EXPECT_EQ(prefetcher.next().first_sample, 0);
  EXPECT_EQ(prefetcher.next().first_sample, 1);
  for (int i = 0; i < 2; ++i) {
    try {
      prefetcher.next();
      FAIL() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "the disk is gone");
    }
  }
}

TEST(Prefetcher, waiting_is_counted) {
  std::atomic<int> made = 0;
  Prefetcher prefetcher(
      [&made](const std::stop_token&) -> std::optional<Batch> {
        std::this_thread::sleep_for(50ms);
        ++made;
        return Batch{};
      },
      1);
  EXPECT_EQ(prefetcher.wait_seconds(), 0);
  prefetcher.next();
  prefetcher.next();
  EXPECT_GT(prefetcher.wait_seconds(), 0.05);
  const double before = prefetcher.wait_seconds();
  while (made < 3) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(20ms);  // the third is in the queue
  prefetcher.next();
  EXPECT_LT(prefetcher.wait_seconds() - before, 0.05);
}

TEST(Prefetcher, ends_promptly_with_a_full_queue_with_none_taken_and_in_the_middle_of_a_batch) {
  const Stopwatch clock;
  for (int i = 0; i < 20; ++i) {
    std::atomic<int> made = 0;
    Prefetcher prefetcher(count_up(made), 2);
    if (i % 2 == 0) prefetcher.next();
  }
  {
    Prefetcher slow(
        [](const std::stop_token& stop) -> std::optional<Batch> {
          while (!stop.stop_requested()) std::this_thread::sleep_for(1ms);
          return std::nullopt;
        },
        2);
    std::this_thread::sleep_for(5ms);
  }
  EXPECT_LT(clock.seconds(), 5.0);
}

TEST(EmbeddingIndex, holds_every_position_once_sorted_by_token) {
  std::mt19937 random(11);
  for (const int count : {1, 2, 17, 1000}) {
    for (const int vocab : {1, 5, 40000}) {
      std::vector<std::int32_t> tokens;
      for (int i = 0; i < count; ++i) {
        tokens.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(vocab)));
      }
      const EmbeddingIndex index = make_embedding_index(tokens);
      ASSERT_EQ(index.position.size(), tokens.size());
      ASSERT_EQ(index.segment_begin.size(), index.segment_token.size() + 1);
      EXPECT_EQ(index.segment_begin.front(), 0);
      EXPECT_EQ(index.segment_begin.back(), count);
      std::vector<bool> seen(tokens.size());
      for (std::size_t s = 0; s < index.segment_token.size(); ++s) {
        if (s > 0) {
          EXPECT_LT(index.segment_token[s - 1], index.segment_token[s]);
        }
        EXPECT_LT(index.segment_begin[s], index.segment_begin[s + 1]);
        for (auto i = index.segment_begin[s]; i < index.segment_begin[s + 1]; ++i) {
          const auto at = static_cast<std::size_t>(index.position[static_cast<std::size_t>(i)]);
          EXPECT_EQ(tokens[at], index.segment_token[s]);
          EXPECT_FALSE(seen[at]);
          seen[at] = true;
          if (i > index.segment_begin[s]) {
            EXPECT_LT(index.position[static_cast<std::size_t>(i - 1)],
                      index.position[static_cast<std::size_t>(i)]);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace koios
