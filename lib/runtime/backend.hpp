// Where memory lives and work runs. A CUDA build holds both backends, a host build only `host`.
#pragma once

#include <string_view>

namespace koios {

enum class Backend { host, cuda };

std::string_view to_string(Backend backend);

/// Whether this build can use the backend at all (it says nothing about devices present).
bool is_built_in(Backend backend);

}  // namespace koios
