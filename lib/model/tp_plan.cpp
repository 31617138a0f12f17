#include "model/tp_plan.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace koios {
namespace {

struct Entry {
  std::string_view ending;
  Split split;
};

// The input of a layer split by rows is gathered along the sequence before it; what a layer split
// by columns puts out is summed over the ranks and scattered along the sequence.
constexpr Entry kPlan[] = {
    {"tok_embeddings.weight", Split::rows},   // vocabulary; the outputs are summed and scattered
    {"attention_norm.weight", Split::none},   // each rank: its rows of the sequence
    {"attention.wq.weight", Split::rows},     // query heads
    {"attention.wk.weight", Split::rows},     // key and value heads
    {"attention.wv.weight", Split::rows},     //
    {"attention.wo.weight", Split::columns},  // query heads
    {"ffn_norm.weight", Split::none},         //
    {"feed_forward.w1.weight", Split::rows},  // width of the feed-forward
    {"feed_forward.w3.weight", Split::rows},  //
    {"feed_forward.w2.weight", Split::columns},
    {"norm.weight", Split::none},
    {"output.weight", Split::rows},  // vocabulary
};

}  // namespace

Split tensor_split(std::string_view parameter) {
  const auto* entry = std::find_if(std::begin(kPlan), std::end(kPlan),
                                   [&](const Entry& e) { return parameter.ends_with(e.ending); });
  KOIOS_REQUIRE(entry != std::end(kPlan), parameter, " is not in the tensor-parallel plan");
  return entry->split;
}

}  // namespace koios
