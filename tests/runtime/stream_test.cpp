// The host half: operations that were started and are completed in the order of their stream.
#include "runtime/stream.hpp"

#include <gtest/gtest.h>

#include <array>
#include <stdexcept>
#include <string>

namespace koios {
namespace {

class HostStreamTest : public testing::Test {
 protected:
  void defer(Stream& stream, char name, AnyRef touched = {}) {
    stream.defer([this, name] { done_ += name; }, {{touched}});
  }

  std::string done_;  // the order of completions
  Stream stream_{Backend::host, "first"};
  Stream other_{Backend::host, "second"};
};

TEST_F(HostStreamTest, synchronize_completes_in_order) {
  defer(stream_, 'a');
  defer(stream_, 'b');
  EXPECT_EQ(done_, "");
  stream_.synchronize();
  EXPECT_EQ(done_, "ab");
  stream_.synchronize();
  EXPECT_EQ(done_, "ab");
}

TEST_F(HostStreamTest, an_event_completes_up_to_its_record_only) {
  Event event(Backend::host);
  EXPECT_TRUE(event.is_done());  // before its first record
  other_.wait(event);
  defer(stream_, 'a');
  event.record(stream_);
  defer(stream_, 'b');
  EXPECT_FALSE(event.is_done());
  other_.wait(event);
  EXPECT_TRUE(event.is_done());
  EXPECT_EQ(done_, "a");
  event.record(stream_);  // moves the point
  event.synchronize();
  EXPECT_EQ(done_, "ab");
}

TEST_F(HostStreamTest, streams_are_independent) {
  defer(stream_, 'a');
  defer(other_, 'b');
  other_.synchronize();
  EXPECT_EQ(done_, "b");
}

TEST_F(HostStreamTest, only_operations_on_the_same_memory_are_waited_for) {
  std::array<float, 30> memory{};
  const auto ten = [&](int first) { return any(make_ref(memory.data() + first, 10)); };
  defer(stream_, 'a', ten(0));
  defer(stream_, 'b', ten(10));
  defer(stream_, 'c', ten(20));
  stream_.complete_touching(any(make_ref(memory.data() + 19, 1)));
  EXPECT_EQ(done_, "ab");  // b's memory; a comes before it
  stream_.complete_touching(ten(0));
  EXPECT_EQ(done_, "ab");
  stream_.complete_touching(any(make_ref(memory.data() + 29, 1)));
  EXPECT_EQ(done_, "abc");
}

TEST_F(HostStreamTest, a_completion_that_throws_runs_once) {
  stream_.defer([] { throw std::runtime_error("lost"); }, {});
  defer(stream_, 'b');
  EXPECT_THROW(stream_.synchronize(), std::runtime_error);
  stream_.synchronize();
  EXPECT_EQ(done_, "b");
}

TEST_F(HostStreamTest, the_end_of_a_stream_completes_it_but_not_under_an_exception) {
  {
    Stream stream(Backend::host, "short-lived");
    defer(stream, 'a');
  }
  EXPECT_EQ(done_, "a");
  try {
    Stream stream(Backend::host, "short-lived");
    defer(stream, 'b');
    throw std::runtime_error("failed");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(done_, "a");
}

TEST_F(HostStreamTest, an_event_outlives_its_stream) {
  Event event(Backend::host);
  {
    Stream stream(Backend::host, "short-lived");
    defer(stream, 'a');
    event.record(stream);
  }
  event.synchronize();
  EXPECT_TRUE(event.is_done());
}

TEST_F(HostStreamTest, timed_events_tell_when_the_point_was_reached) {
  Event before(Backend::host, true);
  Event after(Backend::host, true);
  before.record(stream_);
  defer(stream_, 'a');
  after.record(stream_);
  EXPECT_THROW(after.seconds_since(before), InvariantError);
  after.synchronize();
  EXPECT_EQ(done_, "a");
  EXPECT_GE(after.seconds_since(before), 0.0);
  EXPECT_LT(after.seconds_since(before), 10.0);
}

TEST(Backend, names) {
  EXPECT_EQ(to_string(Backend::host), "host");
  EXPECT_EQ(to_string(Backend::cuda), "cuda");
  EXPECT_TRUE(is_built_in(Backend::host));
}

}  // namespace
}  // namespace koios
