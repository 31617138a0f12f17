// What a block keeps for its backward pass. Each level computes again what the one before it does,
// and more; every tensor has the least level that computes it again (activations.cpp). Formulas and
// a table: docs/recomputation.md. ref: Chen et al. 2016; Korthikanti et al. 2022.
#pragma once

#include <cstdint>
#include <string>

namespace koios {

enum class Recompute {
  none,     // all is kept
  op,       // norms and swiglu again; results of products, attention and communication are kept
  op_half,  // and every second product of a block: wk, wo and w3 (torchtitan's choice)
  full      // all but the block's input
};

struct RecomputePolicy {
  Recompute level = Recompute::none;
  std::int64_t every = 1;  // the last one of so many blocks; the others keep all

  Recompute of_block(std::int64_t layer) const {
    return (layer + 1) % every == 0 ? level : Recompute::none;
  }
  /// As the deck's mode and selective_ac_option say it: "none", "selective op", "selective 2".
  std::string describe() const;
  bool operator==(const RecomputePolicy&) const = default;
};

}  // namespace koios
