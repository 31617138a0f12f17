#include "shard/replicated.hpp"

namespace koios {

void sum_replicated(Stream& stream, const ShardLayout& layout, Ref<float, 1> gradient_shard,
                    Communicator& tensor) {
  GroupCall call(tensor);
  for (const UnitLayout& unit : layout.units()) {
    for (const ParameterLayout& p : unit.parameters) {
      if (p.spec.split != Split::none) continue;
      tensor.all_reduce(any(slice(gradient_shard, p.shard_offset, p.part_size())), ReduceOp::sum,
                        stream);
    }
  }
}

}  // namespace koios
