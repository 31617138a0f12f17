// What a destructor asks before it waits for other ranks, or for a device that may wait for them.
#pragma once

#include <exception>

namespace koios {

/// An exception is on its way out of a scope of this thread. Other ranks may never do their part of
/// what a destructor would finish: it lets go without waiting, and frees nothing that a library
/// may still write to.
inline bool is_unwinding() noexcept { return std::uncaught_exceptions() > 0; }

}  // namespace koios
