#include "core/free_memory.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace koios {
namespace {

/// A machine with 8,000 KiB available.
class FreeMemoryOf : public testing::Test {
 protected:
  FreeMemoryOf() { write("proc/meminfo", "MemTotal: 16000 kB\nMemAvailable:    8000 kB\n"); }
  ~FreeMemoryOf() override { std::filesystem::remove_all(root_); }

  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  std::int64_t free_kib() const { return free_host_memory(root_).bytes / 1024; }
  FreeMemory of_process() const { return free_process_memory(root_); }
  std::int64_t resident_kib() const { return resident_host_bytes(root_) / 1024; }

 private:
  std::filesystem::path root_ =
      std::filesystem::path(testing::TempDir()) / ("koios_memory_" + std::to_string(getpid()));
};

TEST_F(FreeMemoryOf, what_the_kernel_calls_available) {
  EXPECT_EQ(free_kib(), 8000);
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "max\n");
  write("sys/fs/cgroup/memory.current", "1024\n");
  EXPECT_EQ(free_kib(), 8000);
}

TEST_F(FreeMemoryOf, what_is_short_has_its_name) {
  EXPECT_EQ(of_process().of, "host memory");
  write("proc/self/status", "Name:\tkoios\nVmSize:\t    3000 kB\nVmData:\t     500 kB\n");
  write("proc/self/limits",
        "Max data size             unlimited            unlimited            bytes     \n"
        "Max address space         9216000              unlimited            bytes     \n");
  EXPECT_EQ(of_process().bytes, 6000 * 1024);
  EXPECT_EQ(of_process().of, "the address space that ulimit -v allows (8 MiB)");
  EXPECT_EQ(free_kib(), 8000);  // the other processes' share is no less for it
  write("proc/self/limits",
        "Max data size             1048576              unlimited            bytes     \n"
        "Max address space         9216000              unlimited            bytes     \n");
  EXPECT_EQ(of_process().bytes, 524 * 1024);
  EXPECT_EQ(of_process().of, "the data that ulimit -d allows (1 MiB)");
  write("proc/self/cgroup", "0::/job_7\n");
  write("sys/fs/cgroup/job_7/memory.max", "2048000\n");
  write("sys/fs/cgroup/job_7/memory.current", "2000000\n");
  EXPECT_EQ(of_process().of, "the control group's memory (/sys/fs/cgroup/job_7/memory.max)");
  write("proc/sys/vm/overcommit_memory", "2\n");
  write("proc/meminfo", "MemAvailable: 8000 kB\nCommitLimit: 7000 kB\nCommitted_AS: 6990 kB\n");
  EXPECT_EQ(of_process().of, "what the kernel promises (vm.overcommit_memory = 2)");
  EXPECT_EQ(of_process().bytes, 10 * 1024);
}

TEST_F(FreeMemoryOf, what_this_process_holds) {
  write("proc/self/status", "Name:\tkoios\nVmPeak:\t 900 kB\nVmRSS:\t     700 kB\n");
  EXPECT_EQ(resident_kib(), 700);
  EXPECT_GT(resident_host_bytes(), 1 << 20);
}

TEST_F(FreeMemoryOf, a_container_that_has_read_files_may_have_their_cache_back) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "4096000\n");      // 4,000 KiB
  write("sys/fs/cgroup/memory.current", "3993600\n");  // 3,900 KiB
  EXPECT_EQ(free_kib(), 100);
  write("sys/fs/cgroup/memory.stat", "anon 2048000\nactive_file 1024000\ninactive_file 512000\n");
  EXPECT_EQ(free_kib(), 1600);
}

TEST_F(FreeMemoryOf, the_limit_of_a_group_above_holds) {
  write("proc/self/cgroup", "1:name=systemd:/x\n0::/job_7/step_0\n");
  write("sys/fs/cgroup/job_7/step_0/memory.max", "max\n");
  write("sys/fs/cgroup/job_7/step_0/memory.current", "0\n");
  write("sys/fs/cgroup/job_7/memory.max", "2048000\n");
  write("sys/fs/cgroup/job_7/memory.current", "1024000\n");
  EXPECT_EQ(free_kib(), 1000);
  write("sys/fs/cgroup/job_7/memory.current", "4096000\n");  // more than the limit
  EXPECT_EQ(free_kib(), 0);
}

TEST_F(FreeMemoryOf, groups_of_version_1) {
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
