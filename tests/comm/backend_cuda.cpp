#include "tests/comm/tested_backend.hpp"

namespace koios {

Backend tested_backend() { return Backend::cuda; }
ShardTransport tested_transport() { return ShardTransport::nccl; }

}  // namespace koios
