#include "metrics/run_folder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.hpp"
#include "tests/metrics/scratch_folder.hpp"

namespace koios {
namespace {

using testing::HasSubstr;
using namespace koios::test;

std::string refusal(const std::filesystem::path& path) {
  return message_of<UserError>([&] { RunFolder folder(path); });
}

/// Root may write anywhere, so such tests give root up for their duration.
class AsNobody {
 public:
  AsNobody() {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) throw std::runtime_error("seteuid failed");
  }
  ~AsNobody() {
    if (::getuid() == 0 && ::seteuid(0) != 0) std::abort();
  }
};

TEST(RunFolder, is_made_with_its_parents) {
  const ScratchFolder scratch;
  const RunFolder folder(scratch.path("a/b"));
  EXPECT_TRUE(std::filesystem::is_directory(scratch.path("a/b")));
  EXPECT_EQ(folder.file("metrics.jsonl"), scratch.path("a/b/metrics.jsonl"));
  EXPECT_EQ(folder.run(), 1);
}

TEST(RunFolder, that_is_read_only_is_named_with_the_fix) {
  const ScratchFolder scratch;
  std::filesystem::permissions(scratch.path(), std::filesystem::perms(0555));
  const AsNobody nobody;
  const std::string message = refusal(scratch.path());
  EXPECT_THAT(message, HasSubstr(scratch.path().string()));
  EXPECT_THAT(message, HasSubstr("run.lock: Permission denied"));
  EXPECT_THAT(message, HasSubstr("job/dump_folder="));
  EXPECT_THAT(refusal(scratch.path("inside")), HasSubstr("cannot be made: Permission denied"));
}

TEST(RunFolder, below_one_that_may_not_be_entered_is_named_with_the_fix) {
  const ScratchFolder scratch;
  std::filesystem::create_directory(scratch.path("closed"));
  std::filesystem::permissions(scratch.path("closed"), std::filesystem::perms::none);
  const AsNobody nobody;
  const std::string message = refusal(scratch.path("closed/run"));
  EXPECT_THAT(message, HasSubstr("closed/run' cannot be made: Permission denied"));
  EXPECT_THAT(message, HasSubstr("job/dump_folder="));
}

TEST(RunFolder, that_is_a_file_is_refused) {
  const ScratchFolder scratch;
  append_text(scratch.path("outputs"), "text");
  EXPECT_THAT(refusal(scratch.path("outputs")), HasSubstr("outputs' is a file"));
  EXPECT_THAT(refusal(scratch.path("outputs/run")), HasSubstr("cannot be made: Not a directory"));
}

TEST(RunFolder, may_be_a_link_but_not_to_nothing) {
  const ScratchFolder scratch;
  std::filesystem::create_symlink(scratch.path("there"), scratch.path("link"));
  EXPECT_THAT(refusal(scratch.path("link")),
              HasSubstr("is a link to " + scratch.path("there").string() + ", which is not there"));
  std::filesystem::create_directory(scratch.path("there"));
  EXPECT_EQ(refusal(scratch.path("link")), "");
}

TEST(RunFolder, does_not_overwrite_what_is_no_lock) {
  const ScratchFolder scratch;
  append_text(scratch.path("other"), "somebody else's");
  std::filesystem::create_symlink(scratch.path("other"), scratch.path("run.lock"));
  EXPECT_THAT(refusal(scratch.path()), HasSubstr("run.lock is a link to"));
  EXPECT_EQ(read_text(scratch.path("other")), "somebody else's");
  std::filesystem::remove(scratch.path("run.lock"));
  append_text(scratch.path("run.lock"), "two lines\nof text\n");
  EXPECT_THAT(refusal(scratch.path()), HasSubstr("holds a file run.lock that is none of Koios"));
  EXPECT_EQ(read_text(scratch.path("run.lock")), "two lines\nof text\n");
}

TEST(RunFolder, is_held_by_one_run_at_a_time) {
  const ScratchFolder scratch;
  {
    const RunFolder first(scratch.path("run"));
    EXPECT_THAT(refusal(scratch.path("run")), HasSubstr(cat("is in use by another run")));
    EXPECT_THAT(refusal(scratch.path("run")), HasSubstr(cat(" ", ::getpid(), ")")));
  }
  EXPECT_EQ(read_text(scratch.path("run/run.lock")), "") << "an empty lock says: ended";
  EXPECT_EQ(refusal(scratch.path("run")), "");
}

TEST(RunFolder, names_the_job_of_the_batch_system) {
  const ScratchFolder scratch;
  ASSERT_EQ(::setenv("PBS_JOBID", "17.server", 1), 0);
  const RunFolder first(scratch.path("run"));
  ASSERT_EQ(::unsetenv("PBS_JOBID"), 0);
  EXPECT_THAT(refusal(scratch.path("run")), HasSubstr(cat(::getpid(), ", PBS job 17.server)")));
}

TEST(RunFolder, is_free_again_after_its_holder_was_killed) {
  const ScratchFolder scratch;
  const pid_t child = ::fork();
  if (child == 0) {
    const RunFolder folder(scratch.path("run"));
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_NE(read_text(scratch.path("run/run.lock")), "");
  EXPECT_EQ(refusal(scratch.path("run")), "");
}

TEST(RunFolder, numbers_its_runs_by_what_earlier_ones_left) {
  const ScratchFolder scratch;
  append_text(scratch.path("metrics.jsonl"),
              "{\"step\":1,\"run\":1}\n{\"step\":2,\"run\":3}\n{\"st");
  EXPECT_EQ(RunFolder(scratch.path()).run(), 4);
  append_text(scratch.path("provenance.json"), "[{\"run\":1},{\"run\":6}]");
  EXPECT_EQ(RunFolder(scratch.path()).run(), 7);
}

TEST(RunFolder, does_not_read_what_is_no_file) {
  const ScratchFolder scratch;
  std::filesystem::create_symlink("/dev/zero", scratch.path("metrics.jsonl"));
  std::filesystem::create_directory(scratch.path("provenance.json"));
  EXPECT_EQ(RunFolder(scratch.path()).run(), 1);
}

TEST(RunFolder, survives_files_that_are_not_its_own) {
  const ScratchFolder scratch;
  append_text(scratch.path("metrics.jsonl"), "not json\n");
  append_text(scratch.path("provenance.json"), "{\"run\": 4");
  EXPECT_EQ(RunFolder(scratch.path()).run(), 1);
}

TEST(RunFolder, survives_json_nested_without_end) {
  const ScratchFolder scratch;
  append_text(scratch.path("provenance.json"), std::string(1000000, '[') + "\n");
  append_text(scratch.path("metrics.jsonl"), std::string(60000, '[') + "\n");
  EXPECT_EQ(RunFolder(scratch.path()).run(), 1);
}

}  // namespace
}  // namespace koios
