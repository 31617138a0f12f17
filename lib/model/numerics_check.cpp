#include "model/numerics_check.hpp"

#include "core/error.hpp"
#include "kernels/nonfinite.hpp"
#include "runtime/copy.hpp"

namespace koios {

template <class T>
void NumericsCheck::result(Stream& s, const std::string& operation, const std::string& tensor,
                           Ref<const T, 2> x) {
  if (x.size() == 0) return;
  std::int32_t found = 0;
  fill_zero(s, any(count_));
  count_nonfinite<T>(s, count_, x);
  copy(s, any(make_ref(&found, 1)), any(count_));
  s.synchronize();
  if (found == 0) return;
  throw UserError(cat("[job] check_numerics: ", step_, ", ", part_, ", ", operation, " on ", who_,
                      ": ", found, " of the ", x.size(), " values of ", tensor,
                      " are not finite; all results before were"));
}

template void NumericsCheck::result<float>(Stream&, const std::string&, const std::string&,
                                           Ref<const float, 2>);
template void NumericsCheck::result<bf16>(Stream&, const std::string&, const std::string&,
                                          Ref<const bf16, 2>);

}  // namespace koios
