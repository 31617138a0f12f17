// job/check_numerics: counts what is not finite in every result, as soon as it is there, and throws
// at the first that has some: by then all that was computed before was finite, so that this
// operation made it. The host waits for each count: a step takes far longer.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

class NumericsCheck {
 public:
  /// count: in the backend's memory. who: "rank 3 on n2".
  NumericsCheck(Ref<std::int32_t, 1> count, std::string who)
      : count_(count), who_(std::move(who)) {}

  /// What comes now, for the message: "step 12", "forward layers.3, micro-batch 0".
  void at_step(std::string step) { step_ = std::move(step); }
  void enter(std::string part) { part_ = std::move(part); }

  /// UserError where x, the result of an operation on this stream, has values that are not finite.
  /// Both names are for the message.
  template <class T>
  void result(Stream& s, const std::string& operation, const std::string& tensor,
              Ref<const T, 2> x);
  template <class T>
  void result(Stream& s, const std::string& operation, const std::string& tensor,
              Ref<const T, 1> x) {
    result(s, operation, tensor, Ref<const T, 2>(make_ref(x.data, std::int64_t{1}, x.extent[0])));
  }

 private:
  Ref<std::int32_t, 1> count_;
  std::string who_;
  std::string step_ = "start";
  std::string part_;
};

}  // namespace koios
