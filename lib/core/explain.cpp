#include "core/explain.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <system_error>
#include <typeinfo>

#include "core/error.hpp"
#include "core/free_memory.hpp"

namespace koios {
namespace {

std::string type_of(const std::exception& error) {
  const char* mangled = typeid(error).name();
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  return name ? name.get() : mangled;
}

/// Some of it may have come free since the system refused.
std::string what_is_left() {
  const FreeMemory free = free_process_memory();
  return cat(free.bytes >> 20, " MiB of ", free.of, " are left");
}

}  // namespace

std::string explain(const std::exception& error) {
  const bool is_ours = dynamic_cast<const UserError*>(&error) != nullptr ||
                       dynamic_cast<const LibraryError*>(&error) != nullptr ||
                       dynamic_cast<const InvariantError*>(&error) != nullptr;
  if (is_ours) return error.what();
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return cat("out of memory: the system gave this process no more; ", what_is_left());
  }
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    return cat(file->path1().string(), file->path1().empty() ? "" : ": ", file->code().message());
  }
  if (const auto* system = dynamic_cast<const std::system_error*>(&error)) {
    if (system->code() == std::errc::resource_unavailable_try_again) {
      return cat(
          "the system starts no more threads for this process (is there a limit, as of "
          "ulimit -u or of the job?); ",
          what_is_left());
    }
    return cat("the operating system refused what was asked: ", system->code().message());
  }
  return cat("internal error: nobody took an exception of type ", type_of(error),
             ", which says: ", error.what());
}

std::string explain_current_exception() {
  try {
    throw;
  } catch (const std::exception& error) {
    return explain(error);
  } catch (...) {
    return "internal error: nobody took an exception of an unknown type";
  }
}

}  // namespace koios
