#include "runtime/launch_check.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace koios {
namespace {

using Variables = std::map<std::string, std::string>;

EnvLookup lookup(const Variables& variables) {
  return [&variables](const char* name) -> const char* {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  };
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

const Variables kStep = {
    {"SLURM_JOB_ID", "5"}, {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "4"}};
const Variables kBatchScript = {
    {"SLURM_JOB_ID", "5"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}};

Variables with(Variables variables, const char* name, const char* value) {
  variables[name] = value;
  return variables;
}

TEST(LaunchCheck, the_launcher_numbers_its_tasks) {
  EXPECT_EQ(launched_rank(lookup({})), 0);
  EXPECT_EQ(launched_rank(lookup(kStep)), 1);
  EXPECT_EQ(launched_rank(lookup(with(kBatchScript, "SLURM_PROCID", "3"))), 0);
  EXPECT_EQ(launched_rank(lookup({{"OMPI_COMM_WORLD_RANK", "2"}, {"PMIX_RANK", "2"}})), 2);
  EXPECT_EQ(launched_rank(lookup({{"PMI_RANK", "3"}})), 3);
  EXPECT_EQ(launched_ranks(lookup({})), 1);
  EXPECT_EQ(launched_ranks(lookup(kStep)), 4);
  EXPECT_EQ(launched_ranks(lookup(with(kBatchScript, "SLURM_PROCID", "3"))), 1);
  EXPECT_EQ(launched_ranks(lookup({{"OMPI_COMM_WORLD_SIZE", "8"}})), 8);
}

TEST(LaunchCheck, nothing_is_wrong_outside_of_slurm) {
  const Variables none;
  EXPECT_EQ(missing_pmix(lookup(none), 2), "");
  EXPECT_EQ(alone_among_tasks(lookup(none), 1), "");
  EXPECT_EQ(forgotten_launcher(lookup(none), 1), "");
}

TEST(LaunchCheck, a_step_needs_pmix) {
  const std::string text = missing_pmix(lookup(kStep), 2);
  EXPECT_TRUE(contains(text, "4 tasks")) << text;
  EXPECT_TRUE(contains(text, "srun --mpi=pmix")) << text;
  const Variables pmix = with(kStep, "PMIX_NAMESPACE", "slurm.pmix.5.0");
  EXPECT_EQ(missing_pmix(lookup(pmix), 2), "");
}

TEST(LaunchCheck, a_step_of_one_task_in_a_larger_job_is_for_mpi_to_judge) {
  const Variables one = with(kStep, "SLURM_STEP_NUM_TASKS", "1");
  EXPECT_EQ(missing_pmix(lookup(one), 2), "");
  EXPECT_EQ(alone_among_tasks(lookup(one), 1), "");
  EXPECT_TRUE(contains(missing_pmix(lookup(one), 1), "started 1 task, but without PMIx"));
}

TEST(LaunchCheck, alone_among_the_ranks_of_another_mpi) {
  const Variables mpirun = {{"OMPI_COMM_WORLD_SIZE", "8"}};
  EXPECT_TRUE(contains(alone_among_tasks(lookup(mpirun), 1), "mpirun started 8 ranks"));
  EXPECT_EQ(alone_among_tasks(lookup(mpirun), 8), "");
}

TEST(LaunchCheck, alone_among_the_tasks_of_a_step) {
  const Variables pmix = with(kStep, "PMIX_NAMESPACE", "slurm.pmix.5.0");
  EXPECT_TRUE(contains(alone_among_tasks(lookup(pmix), 1), "Slurm started 4 tasks"));
  EXPECT_EQ(alone_among_tasks(lookup(pmix), 4), "");
}

TEST(LaunchCheck, a_batch_script_that_forgot_srun_is_only_warned) {
  EXPECT_EQ(missing_pmix(lookup(kBatchScript), 2), "");
  EXPECT_EQ(alone_among_tasks(lookup(kBatchScript), 1), "");
  EXPECT_TRUE(contains(forgotten_launcher(lookup(kBatchScript), 1), "runs as one"));
  EXPECT_EQ(forgotten_launcher(lookup(kBatchScript), 4), "");
}

}  // namespace
}  // namespace koios
