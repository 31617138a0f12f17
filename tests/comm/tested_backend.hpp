// Which backend this build of communicator_test.cpp exercises, and how its GPUs exchange shards:
// one body, one program for each.
#pragma once

#include "comm/communicator.hpp"
#include "runtime/backend.hpp"

namespace koios {

Backend tested_backend();
ShardTransport tested_transport();

}  // namespace koios
