#include "shard/tensor_copies.hpp"

namespace koios {

void sum_tensor_copies(Stream& stream, const ShardLayout& layout, Ref<float, 1> gradient_shard,
                       Communicator& tensor) {
  GroupCall call(tensor);
  for (const UnitLayout& unit : layout.units()) {
    if (!unit.is_held) continue;
    for (const ParameterLayout& p : unit.parameters) {
      if (p.spec.split != Split::none) continue;
      tensor.all_reduce(any(slice(gradient_shard, p.in_shard)), ReduceOp::sum, stream);
    }
  }
}

}  // namespace koios
