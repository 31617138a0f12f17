#include "runtime/mpi_env.hpp"

#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "core/error.hpp"
#include "runtime/check_mpi.hpp"

namespace koios {
namespace {

class MpiEnvTest : public testing::Test {
 protected:
  int argc_ = 0;
  char** argv_ = nullptr;
  MpiEnv mpi_{argc_, argv_};  // joins the MPI that the test's main started
};

TEST_F(MpiEnvTest, knows_its_place) {
  int rank = -1;
  int size = -1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  EXPECT_EQ(mpi_.rank(), rank);
  EXPECT_EQ(mpi_.size(), size);
  EXPECT_EQ(mpi_.local_rank(), rank);  // the tests run on one node
  EXPECT_EQ(mpi_.local_size(), size);
  EXPECT_FALSE(mpi_.host().empty());
}

TEST_F(MpiEnvTest, broadcasts_text_of_any_length) {
  for (const std::size_t length : {0, 1, 100'000}) {
    const std::string text(length, 'x');
    EXPECT_EQ(mpi_.broadcast(mpi_.rank() == 0 ? text : "overwritten"), text);
  }
}

TEST_F(MpiEnvTest, gathers_texts_in_rank_order) {
  const auto texts = mpi_.all_gather(std::string(static_cast<std::size_t>(mpi_.rank()), 'r'));
  ASSERT_EQ(static_cast<int>(texts.size()), mpi_.size());
  for (std::size_t r = 0; r < texts.size(); ++r) EXPECT_EQ(texts[r], std::string(r, 'r'));
}

TEST_F(MpiEnvTest, keeps_the_largest_of_each_record) {
  // Of the first record the last rank has the largest, of the second, rank 0; of the third all have
  // the same first integer.
  const std::int64_t r = mpi_.rank();
  std::vector<std::int64_t> records = {r, 10 * r, 100 * r, -r, r + 7, r, 5, r, -r};
  mpi_.all_keep_largest(records, 3);
  const std::int64_t last = mpi_.size() - 1;
  EXPECT_EQ(records,
            (std::vector<std::int64_t>{last, 10 * last, 100 * last, 0, 7, 0, 5, last, -last}));
}

TEST_F(MpiEnvTest, splits_into_groups) {
  const RankGroup group = mpi_.split(mpi_.rank() % 2);
  EXPECT_EQ(group.rank(), mpi_.rank() / 2);
  EXPECT_EQ(group.size(), (mpi_.size() + 1 - mpi_.rank() % 2) / 2);
  EXPECT_EQ(group.host(), mpi_.host());
  EXPECT_EQ(group.broadcast(std::to_string(mpi_.rank())), std::to_string(mpi_.rank() % 2));
}

TEST_F(MpiEnvTest, a_thread_of_each_rank_passes_messages_on) {
  for (const int got : {0, 3, 40}) {
    BackgroundBroadcast messages(mpi_);
    const int expected = mpi_.rank() == 0 ? got + 2 : got;  // the rest is passed over
    std::jthread thread([&](const std::stop_token& stop) {
      for (int i = 0; i < expected; ++i) {
        const auto length = static_cast<std::size_t>(i * 10'000 + 1);
        const BackgroundBroadcast::Message sent(length, std::byte(i));
        const auto message =
            messages.next(messages.is_root() ? sent : BackgroundBroadcast::Message{},
                          i < got ? std::stop_token{} : stop);
        if (!message) return;
        EXPECT_EQ(*message, sent);
      }
    });
    mpi_.all_gather("meanwhile");
    thread.request_stop();
    thread.join();
  }
}

TEST_F(MpiEnvTest, errors_are_thrown_with_mpis_words) {
  try {
    check_mpi(MPI_Send(nullptr, 1, MPI_INT, mpi_.size() + 5, 0, MPI_COMM_WORLD), "MPI_Send");
    FAIL() << "no error";
  } catch (const LibraryError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("MPI: MPI_Send: "), std::string::npos) << text;
    EXPECT_NE(text.find("mpi_env_test.cpp"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace koios
