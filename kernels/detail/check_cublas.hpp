// Turns cuBLAS' status codes into exceptions. Only for files that use cuBLAS.
#pragma once

#include <cublasLt.h>

#include <source_location>

#include "core/error.hpp"

namespace koios::detail {

/// `call`: the function's name, for the message.
inline void check_cublas(cublasStatus_t status, const char* call,
                         std::source_location where = std::source_location::current()) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw LibraryError("cuBLASLt", call,
                     cat(cublasLtGetStatusString(status), " [", cublasLtGetStatusName(status), "]"),
                     where);
}

}  // namespace koios::detail
