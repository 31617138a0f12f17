#include "runtime/memory_book.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace koios {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<char> take(std::size_t mib) { return std::vector<char>(mib << 20, 'x'); }

TEST(MemoryBook, SaysWhoTookWhat) {
  MemoryBook book(Backend::host);
  const auto first = take(512);
  book.note_known("plan", std::int64_t{256} << 20);
  book.note("first library");
  book.note("second library");
  EXPECT_THAT(book.describe(),
              ContainsRegex(
                  "^memory of this process: start 0.[0-9][0-9], plan 0.25, first library 0.2[0-9], "
                  "second library 0.00, in all [0-9.]+ GiB; [0-9.]+ GiB are free$"));
  const auto later = take(256);
  EXPECT_THAT(book.describe(), HasSubstr(", since then 0.25, in all "));
}

TEST(MemoryBook, IsOpenedWhereAnErrorIsOfMemory) {
  EXPECT_EQ(MemoryBook::about_memory("out of memory"), "");  // there is none
  MemoryBook book(Backend::host);
  book.note("library");
  for (const char* error : {"out of memory: the system gave no more", "CUBLAS_STATUS_ALLOC_FAILED",
                            "CUDA: cudaMalloc(): cudaErrorMemoryAllocation"}) {
    EXPECT_THAT(MemoryBook::about_memory(error), HasSubstr("library 0.00")) << error;
  }
  EXPECT_EQ(MemoryBook::about_memory("no such file"), "");
}

}  // namespace
}  // namespace koios
