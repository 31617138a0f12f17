// main() of the tests that run under mpirun. Every rank runs every test; only rank 0 prints the
// usual lines, failures are printed by the rank that has them, and the job fails if any rank did.
#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdio>
#include <sstream>
#include <string>

namespace {

class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

  void OnTestStart(const testing::TestInfo& info) override {
    test_ = std::string(info.test_suite_name()) + "." + info.name();
  }

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::ostringstream text;
    std::istringstream message(result.message());
    text << "[rank " << rank_ << "] " << test_ << " at "
         << (result.file_name() != nullptr ? result.file_name() : "?") << ":"
         << result.line_number() << "\n";
    for (std::string line; std::getline(message, line);) {
      text << "[rank " << rank_ << "]   " << line << "\n";
    }
    std::fputs(text.str().c_str(), stderr);
    std::fflush(stderr);
  }

 private:
  int rank_;
  std::string test_ = "(before the first test)";
};

}  // namespace

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  testing::InitGoogleTest(&argc, argv);

  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (rank != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(rank));
  }

  int failed = RUN_ALL_TESTS() != 0 ? 1 : 0;
  int failed_anywhere = failed;
  MPI_Allreduce(&failed, &failed_anywhere, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  if (rank == 0 && failed_anywhere != 0 && failed == 0) {
    std::fputs("[rank 0] passed, but another rank failed (its lines begin with its rank)\n",
               stderr);
  }
  MPI_Finalize();
  return failed_anywhere;
}
