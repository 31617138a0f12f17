#include "checkpoint/async_writer.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>

namespace koios {
namespace {

TEST(AsyncWriter, works_beside_its_caller) {
  AsyncWriter writer;
  EXPECT_TRUE(writer.poll());
  std::promise<void> go;
  std::atomic<int> done = 0;
  writer.start([&] {
    go.get_future().wait();
    ++done;
  });
  EXPECT_FALSE(writer.poll());
  go.set_value();
  writer.wait();
  EXPECT_EQ(done, 1);
  EXPECT_TRUE(writer.poll());
}

TEST(AsyncWriter, failures_are_told_once_and_work_goes_on) {
  AsyncWriter writer;
  writer.start([] { throw std::runtime_error("the disk is full"); });
  EXPECT_THROW(writer.wait(), std::runtime_error);
  EXPECT_TRUE(writer.poll());
  int done = 0;
  writer.start([&] { ++done; });
  writer.wait();
  EXPECT_EQ(done, 1);
}

TEST(AsyncWriter, its_end_waits_for_the_work) {
  std::atomic<bool> done = false;
  {
    AsyncWriter writer;
    writer.start([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      done = true;
    });
  }
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace koios
