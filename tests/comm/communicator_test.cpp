// Every operation of Communicator against plain loops over what the ranks are known to hold, on
// the backend that tested_backend() names. Values are a function of (rank, element), so every rank
// can compute what any other contributes.
#include "comm/communicator.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "comm/mesh.hpp"
#include "core/integers.hpp"
#include "core/random.hpp"
#include "runtime/arena.hpp"
#include "runtime/copy.hpp"
#include "runtime/device.hpp"
#include "tests/comm/tested_backend.hpp"

namespace koios {
namespace {

constexpr std::int64_t kArenaBytes = 16 << 20;
constexpr std::int64_t kScratchBytes = 2 << 20;

/// Everything a test needs, made once: Kokkos and NCCL start only once in a process.
struct World {
  World() : mpi(argc, argv), backend(tested_backend()) {
    if (backend == Backend::cuda) device = std::make_unique<DeviceEnv>(backend, mpi.local_rank());
    MeshShape shape;
    shape.extent[static_cast<std::size_t>(Axis::dp_shard)] = mpi.size();
    mesh = std::make_unique<Mesh>(mpi, shape, backend,
                                  CommOptions{.shard_transport = tested_transport()});
  }

  int argc = 0;
  char** argv = nullptr;
  MpiEnv mpi;
  Backend backend;
  std::unique_ptr<DeviceEnv> device;
  std::unique_ptr<Mesh> mesh;
};

std::unique_ptr<World> g_world;  // absent where there are fewer GPUs than ranks

class WorldEnvironment : public testing::Environment {
  void SetUp() override {
    int argc = 0;
    char** argv = nullptr;
    const bool enough = tested_backend() == Backend::host ||
                        count_gpus() >= MpiEnv(argc, argv).local_size();  // NCCL wants one each
    if (enough) g_world = std::make_unique<World>();
  }
  void TearDown() override { g_world.reset(); }  // before MPI ends
};

const auto* const kEnvironment = testing::AddGlobalTestEnvironment(new WorldEnvironment);

template <class T>
T value(int rank, std::int64_t i) {
  const Philox4 bits = philox(17, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(rank));
  return static_cast<T>(static_cast<float>(uniform_open(bits.word[0], bits.word[1]) * 2 - 1));
}

template <class T>
double as_double(T x) {
  if constexpr (std::is_same_v<T, bf16>) {
    return static_cast<float>(x);
  } else {
    return static_cast<double>(x);
  }
}

template <class T>
class CommunicatorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (world_ == nullptr) GTEST_SKIP() << "fewer GPUs than ranks";
    arena_ = std::make_unique<Arena>(world_->backend, MemoryPlan{{}, kArenaBytes});
    compute_ = std::make_unique<Stream>(world_->backend, "compute");
    comm_ = std::make_unique<Stream>(world_->backend, "comm", -1);
    reduce().set_reduce_scratch(scratch(kScratchBytes));
    world_->mesh->share_memory(arena_->memory());
  }
  void TearDown() override {
    if (world_ == nullptr) return;
    world_->mesh->share_memory({});  // each test has waited for its streams
  }

  AnyRef scratch(std::int64_t bytes) {
    if (reduce_scratch_factor(world_->backend, tested_transport()) == 0) return {};
    return any(arena_->take<float>("scratch", bytes / 4));
  }

  Communicator& gather() const { return world_->mesh->shard_gather(); }
  Communicator& reduce() const { return world_->mesh->shard_reduce(); }
  Stream& compute() const { return *compute_; }
  Stream& comm() const { return *comm_; }
  int rank() const { return world_->mpi.rank(); }
  int size() const { return world_->mpi.size(); }
  bool on_host() const { return world_->backend == Backend::host; }

  /// An array on the backend that holds value(rank(), i).
  Ref<T, 1> filled(std::int64_t count) {
    std::vector<T> host(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
      host[static_cast<std::size_t>(i)] = value<T>(rank(), i);
    return upload(host);
  }
  Ref<T, 1> upload(const std::vector<T>& host) {
    const auto ref = arena_->take<T>("test", host.size());
    Stream stream(world_->backend, "upload");
    copy(stream, any(ref), any(make_ref(host.data(), host.size())));
    stream.synchronize();
    return ref;
  }
  std::vector<T> download(Ref<T, 1> ref) {
    std::vector<T> host(static_cast<std::size_t>(ref.size()));
    Stream stream(world_->backend, "download");
    copy(stream, any(make_ref(host.data(), host.size())), any(ref));
    stream.synchronize();
    return host;
  }

  /// Element i of what a gather of filled() parts of `part` elements holds.
  static T gathered(std::int64_t part, std::int64_t i) {
    return value<T>(static_cast<int>(i / part), i);
  }

  void expect_gathered(Ref<T, 1> full) {
    const auto host = download(full);
    const std::int64_t part = full.size() / size();
    for (std::int64_t i = 0; i < full.size(); ++i) {
      ASSERT_EQ(as_double(host[static_cast<std::size_t>(i)]), as_double(gathered(part, i)))
          << "element " << i << " of " << full.size();
    }
  }

  /// `mine` against the reduction over ranks of their elements [offset, offset + mine.size()).
  void expect_reduced(Ref<T, 1> mine, std::int64_t offset, ReduceOp op) {
    const auto host = download(mine);
    for (std::int64_t i = 0; i < mine.size(); ++i) {
      float sum = as_double(value<T>(0, offset + i));
      double magnitude = std::abs(sum);
      for (int r = 1; r < size(); ++r) {
        const auto next = static_cast<float>(as_double(value<T>(r, offset + i)));
        sum = op == ReduceOp::sum ? sum + next : std::max(sum, next);
        magnitude += std::abs(next);
      }
      const double expected = as_double(static_cast<T>(sum));
      // NCCL adds in another order and, for bf16, rounds at every hop: n - 1 roundings of at most
      // the sum of magnitudes, to half an ulp each.
      const double epsilon = std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-24;
      const bool in_rank_order = on_host() || tested_transport() == ShardTransport::copy_engine;
      const double bound = in_rank_order || op == ReduceOp::max ? 0 : size() * epsilon * magnitude;
      ASSERT_NEAR(as_double(host[static_cast<std::size_t>(i)]), expected, bound)
          << "element " << i << " of " << mine.size();
    }
  }

  World* world_ = g_world.get();
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Stream> compute_;
  std::unique_ptr<Stream> comm_;
};

using Types = testing::Types<float, bf16>;
TYPED_TEST_SUITE(CommunicatorTest, Types);

TYPED_TEST(CommunicatorTest, all_gather) {
  for (const std::int64_t part : {1, 3, 17, 1000, 20'001}) {
    const auto full = this->filled(part * this->size());
    this->gather().all_gather(any(full), this->comm());
    this->comm().synchronize();
    this->expect_gathered(full);
  }
}

TYPED_TEST(CommunicatorTest, all_gather_from_elsewhere) {
  for (const std::int64_t part : {1, 17, 20'001}) {
    const auto mine = slice(this->filled(part * this->size()), this->rank() * part, part);
    const auto full = this->arena_->template take<TypeParam>("full", part * this->size());
    this->gather().all_gather(any(mine), any(full), this->comm());
    this->comm().synchronize();
    this->expect_gathered(full);
  }
}

TYPED_TEST(CommunicatorTest, reduce_scatter) {
  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max}) {
    for (const std::int64_t part : {1, 3, 17, 1000, 20'001}) {
      const auto full = this->filled(part * this->size());
      const auto mine = this->arena_->template take<TypeParam>("mine", part);
      this->reduce().reduce_scatter(any(full), any(mine), op, this->comm());
      this->comm().synchronize();
      this->expect_reduced(mine, this->rank() * part, op);
      // `full` is as it was.
      const auto after = this->download(full);
      for (std::int64_t i = 0; i < full.size(); ++i) {
        ASSERT_EQ(as_double(after[static_cast<std::size_t>(i)]),
                  as_double(value<TypeParam>(this->rank(), i)));
      }
    }
  }
}

TYPED_TEST(CommunicatorTest, all_reduce) {
  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max}) {
    const auto data = this->filled(1003);
    this->reduce().all_reduce(any(data), op, this->comm());
    this->comm().synchronize();
    // MPI_Allreduce adds in an order of its own: compare within the bound that NCCL has.
    const auto host = this->download(data);
    for (std::int64_t i = 0; i < data.size(); ++i) {
      double expected = as_double(value<TypeParam>(0, i));
      double magnitude = std::abs(expected);
      for (int r = 1; r < this->size(); ++r) {
        const double next = as_double(value<TypeParam>(r, i));
        expected = op == ReduceOp::sum ? expected + next : std::max(expected, next);
        magnitude += std::abs(next);
      }
      const double epsilon = std::is_same_v<TypeParam, bf16> ? 0x1p-8 : 0x1p-24;
      ASSERT_NEAR(as_double(host[static_cast<std::size_t>(i)]), expected,
                  this->size() * epsilon * magnitude);
    }
  }
}

TYPED_TEST(CommunicatorTest, broadcast_from_each_rank) {
  for (int root = 0; root < this->size(); ++root) {
    const auto data = this->filled(129);
    this->gather().broadcast(any(data), root, this->comm());
    this->comm().synchronize();
    const auto host = this->download(data);
    for (std::int64_t i = 0; i < data.size(); ++i) {
      ASSERT_EQ(as_double(host[static_cast<std::size_t>(i)]), as_double(value<TypeParam>(root, i)));
    }
  }
}

TYPED_TEST(CommunicatorTest, a_ring_of_sends_and_receives) {
  if (this->size() == 1) GTEST_SKIP() << "one rank";
  const int next = (this->rank() + 1) % this->size();
  const int previous = (this->rank() + this->size() - 1) % this->size();
  const auto mine = this->filled(40'001);
  const auto theirs = this->arena_->template take<TypeParam>("theirs", 40'001);
  {
    GroupCall call(this->gather());
    this->gather().send(any(mine), next, this->comm());
    this->gather().recv(any(theirs), previous, this->comm());
  }
  this->comm().synchronize();
  const auto host = this->download(theirs);
  for (std::int64_t i = 0; i < theirs.size(); ++i) {
    ASSERT_EQ(as_double(host[static_cast<std::size_t>(i)]),
              as_double(value<TypeParam>(previous, i)));
  }
}

TYPED_TEST(CommunicatorTest, exchanges_at_every_distance) {
  const std::int64_t n = this->size();
  for (const std::int64_t part : {1, 17, 20'001}) {
    const auto for_all = this->filled(part * n);  // the part of rank r for r
    const auto received = this->arena_->template take<TypeParam>("received", part * n);
    const auto of = [&](const auto& all, std::int64_t rank) {
      return any(slice(all, rank * part, part));
    };
    for (int distance = 1; distance < n; ++distance) {
      const auto to = static_cast<int>((this->rank() + n - distance) % n);
      const auto from = static_cast<int>((this->rank() + distance) % n);
      this->gather().exchange({.data = of(for_all, to),
                               .to = to,
                               .received = of(received, from),
                               .from = from,
                               .target = of(received, this->rank())},
                              this->comm());
    }
    this->comm().synchronize();
    const auto host = this->download(received);
    for (std::int64_t i = 0; i < received.size(); ++i) {
      if (i / part == this->rank()) continue;
      ASSERT_EQ(
          as_double(host[static_cast<std::size_t>(i)]),
          as_double(value<TypeParam>(static_cast<int>(i / part), this->rank() * part + i % part)));
    }
  }
}

/// Calls of one communicator follow one another also where they are on several streams.
TYPED_TEST(CommunicatorTest, calls_on_two_streams_follow_one_another) {
  std::vector<Ref<TypeParam, 1>> gathered;
  for (int i = 0; i < 40; ++i) {
    gathered.push_back(this->filled((i % 3 == 0 ? 5003 : 11) * this->size()));
  }
  for (std::size_t i = 0; i < gathered.size(); ++i) {
    this->gather().all_gather(any(gathered[i]), i % 2 == 0 ? this->comm() : this->compute());
  }
  this->compute().synchronize();
  this->comm().synchronize();
  for (const auto& full : gathered) this->expect_gathered(full);
}

/// As a step does it: groups of odd sizes, gathers and reductions under way together, completed
/// through events in another order than they were started in.
TYPED_TEST(CommunicatorTest, groups_on_two_communicators_at_once) {
  const std::vector<std::int64_t> parts = {5, 1, 4099, 64, 333, 20'000, 7, 7, 12'345};
  Stream reduce_stream(this->comm().backend(), "reduce");
  std::vector<Ref<TypeParam, 1>> gathered;
  std::vector<Ref<TypeParam, 1>> reduced;
  {
    GroupCall call(this->gather());
    for (const auto part : parts) {
      gathered.push_back(this->filled(part * this->size()));
      this->gather().all_gather(any(gathered.back()), this->comm());
    }
  }
  Event gather_done(this->comm().backend());
  gather_done.record(this->comm());
  {
    GroupCall call(this->reduce());
    for (const auto part : parts) {
      const auto full = this->filled(part * this->size());
      reduced.push_back(this->arena_->template take<TypeParam>("mine", part));
      this->reduce().reduce_scatter(any(full), any(reduced.back()), ReduceOp::sum, reduce_stream);
    }
  }
  Event reduce_done(this->comm().backend());
  reduce_done.record(reduce_stream);
  this->compute().wait(reduce_done);
  this->compute().wait(gather_done);
  this->compute().synchronize();
  for (std::size_t p = 0; p < parts.size(); ++p) {
    this->expect_gathered(gathered[p]);
    this->expect_reduced(reduced[p], this->rank() * parts[p], ReduceOp::sum);
  }
}

/// What a stream promises: an operation sees what the one before it wrote.
TYPED_TEST(CommunicatorTest, operations_of_one_stream_run_in_order) {
  const std::int64_t part = 5003;
  const auto full = this->filled(part * this->size());
  const auto mine = this->arena_->template take<TypeParam>("mine", part);
  this->gather().all_gather(any(full), this->comm());
  this->reduce().reduce_scatter(any(full), any(mine), ReduceOp::max, this->comm());
  this->gather().broadcast(any(mine), 0, this->comm());
  this->comm().synchronize();
  const auto host = this->download(mine);
  for (std::int64_t i = 0; i < part; ++i) {  // all ranks held the same: the maximum is that value
    ASSERT_EQ(as_double(host[static_cast<std::size_t>(i)]), as_double(this->gathered(part, i)));
  }
}

TYPED_TEST(CommunicatorTest, repeats_to_the_last_bit) {
  const std::int64_t part = 10'011;
  std::vector<std::vector<TypeParam>> results;
  for (int run = 0; run < 3; ++run) {
    const auto full = this->filled(part * this->size());
    const auto mine = this->arena_->template take<TypeParam>("mine", part);
    this->reduce().reduce_scatter(any(full), any(mine), ReduceOp::sum, this->comm());
    this->comm().synchronize();
    results.push_back(this->download(mine));
  }
  for (std::int64_t i = 0; i < part; ++i) {
    const auto at = static_cast<std::size_t>(i);
    ASSERT_EQ(as_double(results[1][at]), as_double(results[0][at]));
    ASSERT_EQ(as_double(results[2][at]), as_double(results[0][at]));
  }
}

TYPED_TEST(CommunicatorTest, counts_what_must_be_sent) {
  const std::int64_t part = 100;
  const std::int64_t n = this->size();
  const std::int64_t bytes = n * part * std::int64_t{sizeof(TypeParam)};
  const auto full = this->filled(n * part);
  const auto mine = this->arena_->template take<TypeParam>("mine", part);
  const Traffic before = this->reduce().traffic();
  this->reduce().all_gather(any(full), this->comm());
  this->reduce().reduce_scatter(any(full), any(mine), ReduceOp::sum, this->comm());
  this->reduce().all_reduce(any(full), ReduceOp::sum, this->comm());
  this->comm().synchronize();
  const Traffic& after = this->reduce().traffic();
  EXPECT_EQ(after.all_gather_bytes - before.all_gather_bytes, (n - 1) * bytes / n);
  EXPECT_EQ(after.reduce_scatter_bytes - before.reduce_scatter_bytes, (n - 1) * bytes / n);
  EXPECT_EQ(after.all_reduce_bytes - before.all_reduce_bytes, 2 * (n - 1) * bytes / n);
  EXPECT_EQ(after.calls - before.calls, n == 1 ? 0 : 3);
}

}  // namespace
}  // namespace koios
