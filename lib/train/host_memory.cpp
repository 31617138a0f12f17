#include "train/host_memory.hpp"

#include "core/error.hpp"
#include "core/readable.hpp"
#include "train/save_staging.hpp"
#include "train/training_memory.hpp"

namespace koios {

std::string host_memory_problem(const HostMemory& each, int ranks, const FreeMemory& free) {
  if (ranks * (each.plan + each.staging) <= free.bytes) return "";
  std::string what;
  std::string remedy = "take more nodes";
  if (each.plan > 0) {
    what = cat("the memory plan's ", gib(each.plan));
    remedy += ", " + smaller_plan(each.moments);
  } else if (each.moments == DType::float32) {
    remedy += ", set optimizer/state_dtype = bfloat16";
  }
  if (each.staging > 0) {
    what += cat(what.empty() ? "" : " and ", gib(each.staging), " for [checkpoint] async = true");
    remedy += ", or set async = false";
  }
  return cat(ranks, ranks == 1 ? " rank needs " : " ranks need ", what, ranks == 1 ? "" : " each",
             ", and only ", gib(free.bytes), " of ", free.of, " are free: ", remedy);
}

void require_host_memory(const TrainingShape& shape, const MemoryPlan& plan, const MpiEnv& mpi) {
  HostMemory each{.moments = shape.moments};
  if (shape.backend == Backend::host) each.plan = plan.total_bytes;
  if (shape.async_saves)
    each.staging = SaveStaging::bytes(shard_layout(shape, mpi.rank()), shape.moments);
  const std::string problem = host_memory_problem(each, mpi.local_size(), free_host_memory());
  if (!problem.empty()) throw UserError(cat("on ", mpi.host(), ": ", problem));
}

}  // namespace koios
