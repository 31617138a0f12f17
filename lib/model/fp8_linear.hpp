// The linear layers of a block in FP8 (training/fp8_linear): inputs and weights in e4m3, gradients
// in e5m2, sums in float32, all scales found anew each time. Which elements share a scale is the
// recipe's matter: one for a tensor (ref: Micikevicius et al. 2022; torchao's "tensorwise", with
// one scale for the weights of one product), for a row (torchao's "rowwise"), or for 1 x 128 of
// inputs and gradients and 128 x 128 of weights (ref: DeepSeek-AI 2024, DeepSeek-V3, 3.3.2).
//
//   input     x -> 8 bits, and its transpose in the same pass: that is kept for the weight gradient
//   forward   y  = x w^T                          gradient   dy -> 8 bits, and its transpose
//   backward  dx = dy w, for which w is turned    weights    dw = dy^T x
// Weights come in 8 bits (shard/fp8_weights.hpp), or are cast here where they cannot.
//
// All operands lie along the dimension that is summed over: GPUs multiply 8-bit matrices only so.
// Scales of rows and of pieces are those of the rows that the product reads, so a matrix and its
// transpose have scales of their own.
#pragma once

#include <optional>
#include <vector>

#include "model/block.hpp"

namespace koios {

/// What an input is cast for; a recomputed one may be wanted for the weight gradient alone.
enum class Fp8Use { products, weight_gradient };

// The kernel that writes a tensor can find its largest magnitude (amax) as it does so. Otherwise
// the cast has to read the tensor twice.

/// Before block_forward: no amax is known.
template <class T>
void fp8_forget_amax(StageContext<T>& c, BlockSaved<T>& v);
/// Where the kernel that writes the layer's input, or the gradient of its output, must raise the
/// amax. Empty where it need not: the recipe wants none, or the tensor was written before with the
/// same values.
template <class T>
Ref<float, 1> fp8_input_amax(const StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer);
template <class T>
Ref<float, 1> fp8_gradient_amax(const StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer);

/// For a kernel that casts the layer's input, or the gradient of its output (O wide), while it
/// computes it: then fp8_input or fp8_gradient has nothing left to do. None where the scale is not
/// known before (model/fp8_history.hpp).
template <class T>
std::optional<Fp8Output<fp8_e4m3>> fp8_input_at_once(const StageContext<T>& c,
                                                     const BlockSaved<T>& v, BlockLinear layer,
                                                     Fp8Use use);
template <class T>
std::optional<Fp8Output<fp8_e5m2>> fp8_gradient_at_once(const StageContext<T>& c,
                                                        const BlockSaved<T>& v, BlockLinear layer,
                                                        std::int64_t O);
/// Whether norms cast their results so. With tensor parallelism ranks would first have to agree on
/// the scale of what they gather. Layer norms, which no large deck uses, are left out: each takes
/// nvcc a minute.
bool norms_cast_at_once(const ModelSpec& model, const TensorParallelOptions& tensor);
/// The places in Fp8History of a block's tensors that are cast so.
std::vector<int> fp8_places_at_once(const StageShape& shape, const Fp8Saved& saved);

/// Casts the layer's input.
template <class T>
void fp8_input(StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer, Ref<const T, 2> x_NI,
               Fp8Use use = Fp8Use::products);
/// The same of an input whose rows the tensor-parallel ranks share; gathers them. comm: in 8 bits,
/// with one float before them, where the recipe has one scale for all; else in the compute type.
template <class T>
void fp8_gathered_input(StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer,
                        Ref<const T, 2> x_SD, Fp8Use use = Fp8Use::products);

/// y_NO = x w^T for the layer's parameters first..last, x as fp8_input left it just now.
template <class T>
void fp8_forward(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer, Ref<T, 2> y_NO,
                 const UnitView<const T>& w, int first, int last);

/// Casts the gradient of the layer's output.
template <class T>
void fp8_gradient(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer,
                  Ref<const T, 2> dy_NO);
template <class T>
void fp8_gathered_gradient(StageContext<T>& c, BlockSaved<T>& v, BlockLinear layer,
                           Ref<const T, 2> dy_SD);

/// dx_NI = dy w for a layer's parameters first..last, dy as fp8_gradient left it just now.
template <class T>
void fp8_backward_input(StageContext<T>& c, const BlockSaved<T>& v, Ref<T, 2> dx_NI,
                        const UnitView<const T>& w, int first, int last);

/// dw (=|+=) dy^T x.
template <class T>
void fp8_backward_weight(StageContext<T>& c, const BlockSaved<T>& v, BlockLinear layer,
                         const UnitView<float>& g, int first, int last, Write write);

}  // namespace koios
