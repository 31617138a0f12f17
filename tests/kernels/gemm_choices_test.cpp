#include "kernels/detail/gemm_choices.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "core/error.hpp"

namespace koios::detail {
namespace {

class GemmChoicesFile : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove(path_); }
  void TearDown() override { std::filesystem::remove(path_); }

  static GemmKey key(std::int64_t m) {
    GemmKey k;
    k.m = m;
    k.n = 8192;
    k.k = 4096;
    return k;
  }

  std::string path_ = ::testing::TempDir() + "koios_gemm_choices_test.txt";
};

constexpr GemmAlgorithm kFirst{1, 2, 3, 0xffffffffffffffff, 5, 6, 7, 0};
constexpr GemmAlgorithm kSecond{9, 8, 7, 6, 5, 4, 3, 2};

TEST_F(GemmChoicesFile, ComesBackForTheSameLibraryAndGpu) {
  GemmChoices(path_, "cublasLt-1/H200").add(key(1), kFirst);
  GemmChoices(path_, "cublasLt-1/H200").add(key(2), kSecond);
  const GemmChoices again(path_, "cublasLt-1/H200");
  EXPECT_EQ(again.find(key(1)), kFirst);
  EXPECT_EQ(again.find(key(2)), kSecond);
  EXPECT_EQ(again.find(key(3)), std::nullopt);
  EXPECT_EQ(GemmChoices(path_, "cublasLt-2/H200").find(key(1)), std::nullopt);
  EXPECT_EQ(GemmChoices(path_, "cublasLt-1/H100").find(key(1)), std::nullopt);
}

TEST_F(GemmChoicesFile, FirstOfTwoRanksHolds) {
  GemmChoices one(path_, "e"), other(path_, "e");
  one.add(key(1), kFirst);
  other.add(key(1), kSecond);
  EXPECT_EQ(GemmChoices(path_, "e").find(key(1)), kFirst);
}

TEST_F(GemmChoicesFile, AnotherFileHasWhatTheFirstLacks) {
  const std::string own = path_ + ".own";
  std::filesystem::remove(own);
  GemmChoices(path_, "e").add(key(1), kFirst);
  GemmChoices(path_, "e").add(key(2), kFirst);
  GemmChoices(own, "e").add(key(1), kSecond);
  GemmChoices both(own, "e", path_);
  EXPECT_EQ(both.find(key(1)), kSecond);
  EXPECT_EQ(both.find(key(2)), kFirst);
  both.add(key(3), kSecond);
  EXPECT_EQ(GemmChoices(path_, "e").find(key(3)), std::nullopt);  // it is only read
  EXPECT_EQ(GemmChoices(own, "e").find(key(3)), kSecond);
  EXPECT_THROW(GemmChoices(own, "e", path_ + ".missing"), UserError);
  std::filesystem::remove(own);
}

TEST_F(GemmChoicesFile, DamagedLinesAreNoChoices) {
  GemmChoices(path_, "e").add(key(1), kFirst);
  std::string line;
  std::getline(std::ifstream(path_), line);
  std::ofstream(path_) << line.substr(0, line.size() - 3) << "\nnonsense\n | | \n"
                       << "koios-gemm-1 e | " << to_string(key(2)) << " | 1 2 3 xyz\n";
  const GemmChoices damaged(path_, "e");
  EXPECT_EQ(damaged.find(key(1)), std::nullopt);
  EXPECT_EQ(damaged.find(key(2)), std::nullopt);
}

TEST_F(GemmChoicesFile, UnwritableFileCostsOnlyAWarning) {
  GemmChoices choices("/nonexistent/folder/choices", "e");
  choices.add(key(1), kFirst);
  EXPECT_EQ(choices.find(key(1)), kFirst);
}

}  // namespace
}  // namespace koios::detail
