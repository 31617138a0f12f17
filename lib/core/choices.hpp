// What a deck chooses and the libraries do: one enum for both.
#pragma once

namespace koios {

/// How the operands of a product get their scales: one a tensor, one a row, or one for each 1 x 128
/// of activations and gradients and each 128 x 128 of weights.
enum class Fp8Recipe { none, tensorwise, rowwise, block };

}  // namespace koios
