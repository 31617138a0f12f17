#include "core/error.hpp"

namespace koios {
namespace {

/// The path below the source tree: "lib/comm/mesh.cpp", not the build machine's folders.
std::string short_path(const char* path) {
  const std::string text = path;
  for (const char* top : {"/lib/", "/kernels/", "/app/", "/tests/", "/tools/"}) {
    if (const auto at = text.rfind(top); at != std::string::npos) return text.substr(at + 1);
  }
  return text;
}

}  // namespace

LibraryError::LibraryError(const char* library, const char* call, const std::string& reason,
                           std::source_location where)
    : std::runtime_error(cat(library, ": ", call, ": ", reason, " (", short_path(where.file_name()),
                             ":", where.line(), ")")) {}

void throw_invariant(const char* condition, const std::string& message,
                     std::source_location where) {
  throw InvariantError(cat("internal error: ", message, message.empty() ? "" : " ", "[", condition,
                           "] (", short_path(where.file_name()), ":", where.line(), ")"));
}

}  // namespace koios
