#include "config/parallel_degrees.hpp"

#include <cstdint>

#include "core/error.hpp"
#include "core/readable.hpp"

namespace koios {
namespace {

/// Ranks of one data-parallel coordinate.
std::int64_t other_degrees(const ParallelConfig& p) {
  return std::int64_t{p.pipeline_parallel} * p.context_parallel * p.tensor_parallel;
}

}  // namespace

std::string mesh_problem(const ParallelConfig& p, int ranks) {
  const std::int64_t others = other_degrees(p);
  if (p.data_parallel == 0) return "data_parallel_degree = 0: expected -1 or at least 1";
  if (p.data_parallel == -1 && ranks % others != 0) {
    return cat(counted(ranks, "rank"), " cannot be divided by pipeline ", p.pipeline_parallel,
               " x context ", p.context_parallel, " x tensor ", p.tensor_parallel, " = ", others);
  }
  if (p.data_parallel != -1 && p.data_parallel * others != ranks) {
    return cat("data_parallel_degree = ", p.data_parallel, ": pipeline ", p.pipeline_parallel,
               " x data ", p.data_parallel, " x context ", p.context_parallel, " x tensor ",
               p.tensor_parallel, " makes ", counted(p.data_parallel * others, "rank"),
               ", the run has ", ranks, "; -1 takes what is left");
  }
  const std::int64_t data = p.data_parallel == -1 ? ranks / others : p.data_parallel;
  if (data % p.data_parallel_replicate != 0) {
    return cat("data_parallel_replicate_degree = ", p.data_parallel_replicate,
               ": does not divide the data-parallel degree ", data);
  }
  return {};
}

ParallelDegrees resolve_degrees(const ParallelConfig& p, int ranks) {
  const std::string problem = mesh_problem(p, ranks);
  KOIOS_REQUIRE(problem.empty(), problem);
  const int data =
      p.data_parallel == -1 ? static_cast<int>(ranks / other_degrees(p)) : p.data_parallel;
  return {p.pipeline_parallel, p.data_parallel_replicate, data / p.data_parallel_replicate,
          p.context_parallel, p.tensor_parallel};
}

}  // namespace koios
