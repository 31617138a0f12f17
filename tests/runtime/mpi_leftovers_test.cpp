#include "runtime/mpi_leftovers.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "runtime/file.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

/// A host's folders of Open MPI's files.
class MpiLeftovers : public testing::Test {
 protected:
  MpiLeftovers() {
    fs::create_directories(places_.segments);
    fs::create_directories(places_.sessions);
  }
  ~MpiLeftovers() override { fs::remove_all(root_); }
  void SetUp() override {
    if (fs::read_symlink("/proc/self/ns/pid") != "pid:[4026531836]") {
      GTEST_SKIP() << "a container, in which nothing is removed";
    }
  }

  fs::path segment(const std::string& end) const {
    return places_.segments / ("vader_segment.node7." + std::to_string(::geteuid()) + end);
  }
  fs::path session(pid_t pid) const {
    return places_.sessions / ("ompi.node7." + std::to_string(::geteuid())) /
           ("pid." + std::to_string(pid));
  }
  static fs::path write(const fs::path& path, const std::string& text = "x") {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }
  void remove() const { remove_mpi_leftovers("node7.example.org", places_); }
  /// Of a process that has ended.
  static pid_t dead() {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
    return child;
  }

  fs::path root_ = fs::path(testing::TempDir()) / ("koios_leftovers_" + std::to_string(getpid()));
  MpiLeftoverPlaces places_{root_ / "shm", root_ / "tmp"};
};

TEST_F(MpiLeftovers, what_nobody_uses_goes) {
  const auto first = write(segment(".4a5a0001.0"));
  const auto second = write(segment(".4a5a0001.1"));
  const auto folder = session(dead());
  write(folder / "1/0/file");
  write(folder / "contact.txt", "1247412224.0;tcp://\n");
  remove();
  EXPECT_FALSE(fs::exists(first));
  EXPECT_FALSE(fs::exists(second));
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(MpiLeftovers, one_open_segment_keeps_its_job) {
  const auto open = write(segment(".4a5a0001.0"));
  const auto of_its_job = write(segment(".4a5a0001.1"));
  const auto other = write(segment(".4a5b0001.1"));
  const FileDescriptor file(::open(open.c_str(), O_RDONLY | O_CLOEXEC));
  remove();
  EXPECT_TRUE(fs::exists(open));
  EXPECT_TRUE(fs::exists(of_its_job));
  EXPECT_FALSE(fs::exists(other));
}

TEST_F(MpiLeftovers, a_live_launcher_keeps_its_session_and_segments) {
  const auto contact = write(session(::getpid()) / "contact.txt", "1247412224.0;tcp://\n");
  const auto of_its_job = write(segment(".4a5a0001.1"));
  remove();
  EXPECT_TRUE(fs::exists(contact));
  EXPECT_TRUE(fs::exists(of_its_job));
}

TEST_F(MpiLeftovers, a_session_that_a_rank_still_uses_stays) {
  const auto file = write(session(dead()) / "pmix/smseg");
  const FileDescriptor used(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  remove();
  EXPECT_TRUE(fs::exists(file));
}

TEST_F(MpiLeftovers, what_is_older_than_every_process_with_mpi_goes) {
  const fs::path folder = session(1).parent_path();
  const auto make = [&](const fs::path& path) {
    write(path / "1/0/file");
    return path;
  };
  const auto age = [](const fs::path& path) {  // longer than any process runs
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(24 * 3650));
    return path;
  };
  const fs::path dead = age(make(folder / "jf.13337"));
  const fs::path other = age(make(folder / "jf.x1"));
  const fs::path used = age(make(folder / "jf.13585"));
  const fs::path recent = make(folder / "jf.2287");
  const fs::path semaphore = age(write(places_.segments / "sem.OMPIO_step_00000073.h5.partial"));
  const fs::path recent_semaphore = write(places_.segments / "sem.OMPIO_step_00000074.h5.partial");
  const fs::path other_semaphore = age(write(places_.segments / "sem.other"));
  const FileDescriptor file(::open((used / "1/0/file").c_str(), O_RDONLY | O_CLOEXEC));
  remove();
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_FALSE(fs::exists(semaphore));
  for (const auto& path : {other, used, recent, recent_semaphore, other_semaphore}) {
    EXPECT_TRUE(fs::exists(path)) << path;
  }
}

TEST_F(MpiLeftovers, other_names_links_and_what_links_lead_to_stay) {
  const auto mine = write(root_ / "mine/file");
  fs::create_symlink(mine, segment(".4a5a0001.0"));
  const auto folder = session(dead());
  fs::create_directories(folder);
  fs::create_directory_symlink(root_ / "mine", folder / "link");
  const pid_t other = dead();
  fs::create_directory_symlink(root_ / "mine", session(other));
  const std::vector<fs::path> kept = {write(segment(".4a5a0001")),
                                      write(segment(".4a5a0001.0.bak")),
                                      write(segment(".xyz.0")),
                                      write(segment("1.4a5a0001.0")),
                                      write(places_.segments / "mine"),
                                      write(segment(".4a5a0001.0.copy")),
                                      write(session(1).parent_path() / "x"),
                                      write(session(1).parent_path() / "pid.7x/file")};
  remove();
  for (const fs::path& path : kept) EXPECT_TRUE(fs::exists(path)) << path;
  EXPECT_TRUE(fs::exists(mine));
  EXPECT_TRUE(fs::is_symlink(segment(".4a5a0001.0")));
  EXPECT_TRUE(fs::is_symlink(session(other)));
  EXPECT_FALSE(fs::exists(folder));
}

}  // namespace
}  // namespace koios
