#include "tests/comm/tested_backend.hpp"

namespace koios {

Backend tested_backend() { return Backend::host; }
ShardTransport tested_transport() { return ShardTransport::automatic; }

}  // namespace koios
