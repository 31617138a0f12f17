#include "checkpoint/detail/h5_handle.hpp"

#include <string>

#include "core/error.hpp"

namespace koios::h5 {
namespace {

/// Keeps the words of the innermost error, which comes first when walking upward.
herr_t take_first(unsigned /*n*/, const H5E_error2_t* error, void* text) {
  auto& out = *static_cast<std::string*>(text);
  if (out.empty() && error->desc != nullptr) out = error->desc;
  return 0;
}

}  // namespace

void fail(const char* call, std::source_location where) {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, &take_first, &reason);
  H5Eclear2(H5E_DEFAULT);
  throw LibraryError("HDF5", call, reason.empty() ? "failed" : reason, where);
}

}  // namespace koios::h5
