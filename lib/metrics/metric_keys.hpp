// The keys of metrics.jsonl, which are also the tags in TensorBoard: torchtitan's names where the
// quantity is the same. docs/outputs.md explains each; a test compares the two.
#pragma once

#include <string_view>

namespace koios::metric {

// Mean and maximum over the steps since the last row, then over all data-parallel ranks.
inline constexpr std::string_view kLossAvg = "loss_metrics/global_avg_loss";
inline constexpr std::string_view kLossMax = "loss_metrics/global_max_loss";
inline constexpr std::string_view kGradNorm = "grad_norm";
inline constexpr std::string_view kLearningRate = "lr";

// Label tokens; the first counts from the start of training, over all ranks.
inline constexpr std::string_view kTokensSeen = "tokens_seen";
// Of the samples of the steps since the last row, over all ranks: equal on every mesh.
inline constexpr std::string_view kSamplesHash = "data/samples_hash";
inline constexpr std::string_view kTokensPerSecondPerRank = "wps";
inline constexpr std::string_view kTokensPerSecond = "tokens_per_second";
inline constexpr std::string_view kTflops = "tflops";
inline constexpr std::string_view kTflopsCausal = "tflops_causal";
inline constexpr std::string_view kMfuPct = "mfu(%)";
inline constexpr std::string_view kMfuCausalPct = "mfu_causal(%)";
// Of the steps since the last row.
inline constexpr std::string_view kSkippedSteps = "skipped_steps";

// With FP8, of the casts of inputs and gradients since the last row, over all ranks.
inline constexpr std::string_view kFp8Saturated = "fp8/saturated";
inline constexpr std::string_view kFp8ZeroAmax = "fp8/zero_amax";

// Seconds per step, averaged over the steps since the last row, and the share of a step.
inline constexpr std::string_view kStepTime = "time_metrics/end_to_end(s)";
inline constexpr std::string_view kDataTime = "time_metrics/data_loading(s)";
inline constexpr std::string_view kDataPct = "time_metrics/data_loading(%)";
inline constexpr std::string_view kCommTime = "time_metrics/communication(s)";
inline constexpr std::string_view kCommPct = "time_metrics/communication(%)";
// Of the communication, what was waited for: parameters, gradients (and the sums that go with
// them), tensor parallelism, another stage, context parallelism.
inline constexpr std::string_view kCommGather = "time_metrics/communication_gather(s)";
inline constexpr std::string_view kCommReduce = "time_metrics/communication_reduce(s)";
inline constexpr std::string_view kCommTensor = "time_metrics/communication_tp(s)";
inline constexpr std::string_view kCommPipeline = "time_metrics/communication_pp(s)";
inline constexpr std::string_view kCommContext = "time_metrics/communication_cp(s)";
// Not of a step: all that training stood still for saving since the last row.
inline constexpr std::string_view kCheckpointStall = "time_metrics/checkpoint_stall(s)";
// One value a rank.
inline constexpr std::string_view kStepTimeByRank = "time_metrics/end_to_end_by_rank(s)";
inline constexpr std::string_view kCommTimeByRank = "time_metrics/communication_by_rank(s)";
// Of what a step takes without waiting for other ranks: the slowest rank's against the median of
// the others of its stage.
inline constexpr std::string_view kSlowestRank = "time_metrics/slowest_over_median";

// Highest over the ranks, since the last row.
inline constexpr std::string_view kMemoryActive = "memory/max_active(GiB)";
inline constexpr std::string_view kMemoryActivePct = "memory/max_active(%)";
inline constexpr std::string_view kMemoryReserved = "memory/max_reserved(GiB)";
inline constexpr std::string_view kMemoryReservedPct = "memory/max_reserved(%)";
inline constexpr std::string_view kHostResident = "memory/host_resident(GiB)";
inline constexpr std::string_view kHostFree = "memory/host_free(GiB)";  // lowest over the ranks

// On GPUs, where the driver tells: means over the ranks, of the temperature the highest.
inline constexpr std::string_view kGpuUtilization = "gpu/utilization(%)";
inline constexpr std::string_view kGpuPower = "gpu/power(W)";
inline constexpr std::string_view kGpuClock = "gpu/clock(MHz)";
inline constexpr std::string_view kGpuTemperature = "gpu/temperature(C)";
inline constexpr std::string_view kEnergyPerToken = "gpu/energy(J/token)";  // of all GPUs

// Held-out data, in rows of steps after which it was read.
inline constexpr std::string_view kValidationLoss = "validation_metrics/loss";
inline constexpr std::string_view kValidationPerplexity = "validation_metrics/perplexity";
inline constexpr std::string_view kValidationTime = "validation_metrics/time(s)";

}  // namespace koios::metric
