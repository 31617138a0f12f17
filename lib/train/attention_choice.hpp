// Which attention a run on GPUs takes, and the workspace that cuDNN's plans want: asked of the
// library itself, before the memory is planned.
#pragma once

#include "runtime/mpi_env.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// Fills shape.math, alike on all ranks. Where cuDNN does not do what the deck leaves to Koios, or
/// refuses it on some rank, all take the fallback, with a warning that says why; UserError where
/// the deck asks for cuDNN. Does nothing on the host. Collective.
void choose_attention(TrainingShape& shape, const MpiEnv& mpi);

}  // namespace koios
