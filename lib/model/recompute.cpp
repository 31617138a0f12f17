#include "model/recompute.hpp"

#include "core/error.hpp"

namespace koios {

std::string RecomputePolicy::describe() const {
  switch (level) {
    case Recompute::none:
      return "none";
    case Recompute::op:
      return "selective op";
    case Recompute::op_half:
      return "selective op_half";
    case Recompute::full:
      return every == 1 ? "full" : cat("selective ", every);
  }
  KOIOS_REQUIRE(false, "unknown level");
}

}  // namespace koios
