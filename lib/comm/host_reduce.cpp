#include "comm/host_reduce.hpp"

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {
namespace {

void all_reduce(Communicator& group, std::span<double> values, ReduceOp op) {
  Stream stream(Backend::host, "host reduce");
  group.all_reduce(any(make_ref(values.data(), values.size())), op, stream);
  stream.synchronize();
}

}  // namespace

void all_reduce_sum(Communicator& group, std::span<double> values) {
  all_reduce(group, values, ReduceOp::sum);
}

void all_reduce_max(Communicator& group, std::span<double> values) {
  all_reduce(group, values, ReduceOp::max);
}

void all_reduce_min(Communicator& group, std::span<double> values) {
  for (double& v : values) v = -v;
  all_reduce(group, values, ReduceOp::max);
  for (double& v : values) v = -v;
}

void barrier(Communicator& group) {
  double nothing = 0;
  all_reduce_sum(group, {&nothing, 1});
}

}  // namespace koios
