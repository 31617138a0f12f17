// Who is in which group: every rank contributes its number, on 1 and on 4 ranks.
#include "comm/mesh.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "comm/host_reduce.hpp"
#include "core/error.hpp"

namespace koios {
namespace {

class MeshTest : public testing::Test {
 protected:
  /// The ranks of `group`, in its order.
  std::vector<float> members(Communicator& group) {
    std::vector<float> ranks(static_cast<std::size_t>(group.size()), -1);
    ranks[static_cast<std::size_t>(group.rank())] = static_cast<float>(mpi_.rank());
    Stream stream(Backend::host, "test");
    group.all_gather(any(make_ref(ranks.data(), ranks.size())), stream);
    stream.synchronize();
    return ranks;
  }

  int argc_ = 0;
  char** argv_ = nullptr;
  MpiEnv mpi_{argc_, argv_};
};

using Ranks = std::vector<float>;

TEST_F(MeshTest, one_rank_is_alone_in_every_group) {
  if (mpi_.size() != 1) GTEST_SKIP() << "for 1 rank";
  const Mesh mesh(mpi_, {}, Backend::host, {});
  for (Communicator* group :
       {&mesh.shard_gather(), &mesh.shard_reduce(), &mesh.replicate(), &mesh.world(), &mesh.tp(),
        &mesh.context(), &mesh.context_reversed(), &mesh.host_world()}) {
    EXPECT_EQ(members(*group), Ranks{0});
  }
}

TEST_F(MeshTest, sharding_beside_tensor_parallel) {
  if (mpi_.size() != 4) GTEST_SKIP() << "for 4 ranks";
  const Mesh mesh(mpi_, {{1, 1, 2, 1, 2}}, Backend::host, {});
  const int r = mpi_.rank();
  const auto shard = r % 2 == 0 ? Ranks{0, 2} : Ranks{1, 3};
  EXPECT_EQ(members(mesh.tp()), (r < 2 ? Ranks{0, 1} : Ranks{2, 3}));
  EXPECT_EQ(members(mesh.shard_gather()), shard);
  EXPECT_EQ(members(mesh.shard_reduce()), shard);
  EXPECT_EQ(members(mesh.replicate()), Ranks{static_cast<float>(r)});
  EXPECT_EQ(members(mesh.world()), (Ranks{0, 1, 2, 3}));
  EXPECT_EQ(members(mesh.host_world()), (Ranks{0, 1, 2, 3}));
}

TEST_F(MeshTest, stages_replicas_and_context) {
  if (mpi_.size() != 4) GTEST_SKIP() << "for 4 ranks";
  const int r = mpi_.rank();
  {
    const Mesh mesh(mpi_, {{2, 1, 2, 1, 1}}, Backend::host, {});
    EXPECT_EQ(members(mesh.shard_gather()), (r < 2 ? Ranks{0, 1} : Ranks{2, 3}));
    EXPECT_EQ(members(mesh.world()), (Ranks{0, 1, 2, 3}));
  }
  {
    const Mesh mesh(mpi_, {{1, 2, 2, 1, 1}}, Backend::host, {});
    EXPECT_EQ(members(mesh.shard_gather()), (r < 2 ? Ranks{0, 1} : Ranks{2, 3}));
    EXPECT_EQ(members(mesh.replicate()), (r % 2 == 0 ? Ranks{0, 2} : Ranks{1, 3}));
    EXPECT_EQ(members(mesh.world()), (Ranks{0, 1, 2, 3}));
  }
  {
    const Mesh mesh(mpi_, {{1, 1, 2, 2, 1}}, Backend::host, {});
    EXPECT_EQ(members(mesh.shard_reduce()), (Ranks{0, 1, 2, 3}));
    EXPECT_EQ(members(mesh.context()), (r < 2 ? Ranks{0, 1} : Ranks{2, 3}));
    EXPECT_EQ(members(mesh.context_reversed()), (r < 2 ? Ranks{1, 0} : Ranks{3, 2}));
  }
  {
    const Mesh mesh(mpi_, {{1, 1, 1, 2, 2}}, Backend::host, {});
    EXPECT_EQ(members(mesh.context()), (r % 2 == 0 ? Ranks{0, 2} : Ranks{1, 3}));
    EXPECT_EQ(members(mesh.context_reversed()), (r % 2 == 0 ? Ranks{2, 0} : Ranks{3, 1}));
  }
}

TEST_F(MeshTest, a_mesh_of_another_size_is_the_users_error) {
  const MeshShape shape{{1, 1, mpi_.size() + 1, 1, 1}};
  EXPECT_THROW(Mesh(mpi_, shape, Backend::host, {}), UserError);
}

TEST_F(MeshTest, records_its_calls) {
  RankState state;
  const Mesh mesh(mpi_, {{1, 1, mpi_.size(), 1, 1}}, Backend::host, {});
  mesh.recorder().publish_in(state);
  barrier(mesh.host_world());
  mesh.recorder().withdraw();
  EXPECT_EQ(state.group[0].issued, mpi_.size() > 1 ? 1 : 0);
  EXPECT_EQ(state.group[0].done, state.group[0].issued);
  EXPECT_EQ(mesh.poll(), "");
}

}  // namespace
}  // namespace koios
