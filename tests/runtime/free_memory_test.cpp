#include "runtime/free_memory.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace koios {
namespace {

/// A machine with 8,000 KiB available.
class FreeMemory : public testing::Test {
 protected:
  FreeMemory() { write("proc/meminfo", "MemTotal: 16000 kB\nMemAvailable:    8000 kB\n"); }
  ~FreeMemory() override { std::filesystem::remove_all(root_); }

  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  std::int64_t free_kib() const { return free_host_bytes(root_) / 1024; }
  std::int64_t resident_kib() const { return resident_host_bytes(root_) / 1024; }

 private:
  std::filesystem::path root_ =
      std::filesystem::path(testing::TempDir()) / ("koios_memory_" + std::to_string(getpid()));
};

TEST_F(FreeMemory, what_the_kernel_calls_available) {
  EXPECT_EQ(free_kib(), 8000);
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "max\n");
  write("sys/fs/cgroup/memory.current", "1024\n");
  EXPECT_EQ(free_kib(), 8000);
}

TEST_F(FreeMemory, what_this_process_holds) {
  write("proc/self/status", "Name:\tkoios\nVmPeak:\t 900 kB\nVmRSS:\t     700 kB\n");
  EXPECT_EQ(resident_kib(), 700);
  EXPECT_GT(resident_host_bytes(), 1 << 20);
}

TEST_F(FreeMemory, a_container_that_has_read_files_may_have_their_cache_back) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "4096000\n");      // 4,000 KiB
  write("sys/fs/cgroup/memory.current", "3993600\n");  // 3,900 KiB
  EXPECT_EQ(free_kib(), 100);
  write("sys/fs/cgroup/memory.stat", "anon 2048000\nactive_file 1024000\ninactive_file 512000\n");
  EXPECT_EQ(free_kib(), 1600);
}

TEST_F(FreeMemory, the_limit_of_a_group_above_holds) {
  write("proc/self/cgroup", "1:name=systemd:/x\n0::/job_7/step_0\n");
  write("sys/fs/cgroup/job_7/step_0/memory.max", "max\n");
  write("sys/fs/cgroup/job_7/step_0/memory.current", "0\n");
  write("sys/fs/cgroup/job_7/memory.max", "2048000\n");
  write("sys/fs/cgroup/job_7/memory.current", "1024000\n");
  EXPECT_EQ(free_kib(), 1000);
  write("sys/fs/cgroup/job_7/memory.current", "4096000\n");  // more than the limit
  EXPECT_EQ(free_kib(), 0);
}

TEST_F(FreeMemory, groups_of_version_1) {
  write("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/slurm/job_7\n0::/\n");
  write("sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes", "3072000\n");
  write("sys/fs/cgroup/memory/slurm/job_7/memory.usage_in_bytes", "2048000\n");
  write("sys/fs/cgroup/memory/slurm/job_7/memory.stat",
        "inactive_file 0\ntotal_inactive_file 1024000\ntotal_active_file 0\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "2048000\n");
  EXPECT_EQ(free_kib(), 2000);
}

}  // namespace
}  // namespace koios
