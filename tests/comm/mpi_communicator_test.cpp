// What only the host's communicator has: scratch, deferred completion, other element types.
#include "comm/mpi_communicator.hpp"

#include <gtest/gtest.h>
#include <mpi.h>

#include <memory>
#include <numeric>
#include <vector>

#include "comm/host_reduce.hpp"
#include "core/error.hpp"
#include "runtime/arena.hpp"

namespace koios {
namespace {

class MpiCommunicatorTest : public testing::Test {
 protected:
  static MpiComm duplicate_of_world() {
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    return MpiComm(comm);
  }

  /// rank * 1000 + i
  std::vector<float> numbers(std::int64_t count) const {
    std::vector<float> v(static_cast<std::size_t>(count));
    std::iota(v.begin(), v.end(), static_cast<float>(1000 * group_.rank()));
    return v;
  }
  /// The sum over ranks of numbers()[i].
  float sum(std::int64_t i) const {
    const int n = group_.size();
    return static_cast<float>(1000 * (n * (n - 1) / 2) + n * i);
  }
  template <class T>
  static AnyRef view(std::vector<T>& v) {
    return any(make_ref(v.data(), v.size()));
  }

  FlightRecorder recorder_{0, 16};
  MpiCommunicator group_{"test", duplicate_of_world(), &recorder_};
  Stream stream_{Backend::host, "comm"};
};

TEST_F(MpiCommunicatorTest, scratch_for_one_serves_a_group_of_five) {
  const std::int64_t part = 100;
  const int n = group_.size();
  std::vector<float> scratch(static_cast<std::size_t>(part * n));
  group_.set_reduce_scratch(view(scratch));
  std::vector<std::vector<float>> full(5, numbers(part * n));
  std::vector<std::vector<float>> mine(5, std::vector<float>(part));
  {
    GroupCall call(group_);
    for (std::size_t k = 0; k < 5; ++k) {
      group_.reduce_scatter(view(full[k]), view(mine[k]), ReduceOp::sum, stream_);
    }
  }
  stream_.synchronize();
  for (const auto& m : mine) {
    for (std::int64_t i = 0; i < part; ++i) {
      ASSERT_EQ(m[static_cast<std::size_t>(i)], sum(group_.rank() * part + i));
    }
  }
}

TEST_F(MpiCommunicatorTest, missing_scratch_is_a_defect) {
  if (group_.size() == 1) GTEST_SKIP() << "one rank needs none";
  auto full = numbers(10 * group_.size());
  std::vector<float> mine(10);
  EXPECT_THROW(group_.reduce_scatter(view(full), view(mine), ReduceOp::sum, stream_),
               InvariantError);
}

TEST_F(MpiCommunicatorTest, nothing_is_written_before_the_stream_is_asked) {
  if (group_.size() == 1) GTEST_SKIP() << "one rank copies at once";
  const std::int64_t part = 7;
  std::vector<float> scratch(static_cast<std::size_t>(part * group_.size()));
  group_.set_reduce_scratch(view(scratch));
  auto full = numbers(part * group_.size());
  std::vector<float> mine(static_cast<std::size_t>(part), -1);
  group_.reduce_scatter(view(full), view(mine), ReduceOp::sum, stream_);
  EXPECT_EQ(mine[0], -1);
  Event done(Backend::host);
  done.record(stream_);
  Stream compute(Backend::host, "compute");
  compute.wait(done);
  EXPECT_EQ(mine[0], sum(group_.rank() * part));
  EXPECT_GT(group_.host_seconds(), 0.0);
}

TEST_F(MpiCommunicatorTest, host_helpers) {
  const int rank = group_.rank();
  const int n = group_.size();
  std::vector<double> values = {static_cast<double>(rank), -2.0 * rank, 1.0};
  all_reduce_sum(group_, values);
  EXPECT_EQ(values, (std::vector<double>{n * (n - 1) / 2.0, -1.0 * n * (n - 1), 1.0 * n}));
  values = {static_cast<double>(rank), -2.0 * rank};
  all_reduce_max(group_, values);
  EXPECT_EQ(values, (std::vector<double>{n - 1.0, 0.0}));
  values = {static_cast<double>(rank), -2.0 * rank};
  all_reduce_min(group_, values);
  EXPECT_EQ(values, (std::vector<double>{0.0, -2.0 * (n - 1)}));
  barrier(group_);
}

TEST_F(MpiCommunicatorTest, integers) {
  std::vector<std::int64_t> counts = {group_.rank() + 1, std::int64_t{1} << 40};
  group_.all_reduce(view(counts), ReduceOp::sum, stream_);
  const int n = group_.size();
  EXPECT_EQ(counts[0], n * (n + 1) / 2);
  EXPECT_EQ(counts[1], std::int64_t{n} << 40);
}

TEST_F(MpiCommunicatorTest, empty_arrays_are_no_calls) {
  std::vector<float> none;
  group_.all_gather(view(none), stream_);
  group_.reduce_scatter(view(none), view(none), ReduceOp::sum, stream_);
  group_.all_reduce(view(none), ReduceOp::sum, stream_);
  stream_.synchronize();
  EXPECT_EQ(group_.traffic().calls, 0);
}

/// The other rank sends when the scope that wanted it has ended by an exception: MPI writes to
/// where it was told to.
TEST_F(MpiCommunicatorTest, memory_of_an_arena_outlives_an_exception) {
  if (group_.size() < 2) GTEST_SKIP() << "takes two ranks";
  constexpr std::int64_t kCount = 4 << 20;
  MemoryPlan plan;
  plan.total_bytes = kCount * std::int64_t{sizeof(float)};
  Ref<float, 1> place;
  if (group_.rank() == 0) {
    try {
      Arena arena(Backend::host, plan);
      Stream stream(Backend::host, "fails");
      place = arena.take<float>("received", kCount);
      group_.recv(any(place), 1, stream);
      throw UserError("something else went wrong");
    } catch (const UserError&) {
    }
  }
  barrier(group_);
  if (group_.rank() == 1) {
    std::vector<float> sent(kCount, 7);
    group_.send(view(sent), 0, stream_);
    stream_.synchronize();
  }
  barrier(group_);
  if (group_.rank() == 0) {
    EXPECT_EQ(place[kCount - 1], 7);
  }
}

TEST_F(MpiCommunicatorTest, parts_must_be_equal) {
  auto full = numbers(10 * group_.size() + 1);
  std::vector<float> mine(10);
  EXPECT_THROW(group_.reduce_scatter(view(full), view(mine), ReduceOp::sum, stream_),
               InvariantError);
}

}  // namespace
}  // namespace koios
