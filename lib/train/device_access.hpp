// Values of a device's memory for a save or a load that waits: through one pinned buffer.
#pragma once

#include <memory>

#include "checkpoint/saved_array.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// The way to values in `stream`'s backend's memory.
std::unique_ptr<HostAccess> make_host_access(Stream& stream);

}  // namespace koios
