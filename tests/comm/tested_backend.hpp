// Which backend this build of communicator_test.cpp exercises: one body, one program per backend.
#pragma once

#include "runtime/backend.hpp"

namespace koios {

Backend tested_backend();

}  // namespace koios
