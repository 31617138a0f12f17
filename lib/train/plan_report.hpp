// The plan in words: what a rank will hold and send. Printed before anything is allocated, and by
// --dry-run for any mesh.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/arena.hpp"
#include "train/traffic_plan.hpp"
#include "train/training_shape.hpp"

namespace koios {

/// Lines without newline. device_bytes: what the device has, where that is known.
std::vector<std::string> describe_plan(const TrainingShape& shape, const MemoryPlan& memory,
                                       const TrafficPlan& traffic,
                                       std::optional<std::int64_t> device_bytes);

/// What each choice of recomputation would keep: the user's choice in figures.
std::string describe_recomputation(const TrainingShape& shape);

/// "model 7B: 6,738,415,616 parameters, 32 layers, ..."; name: the flavor.
std::string describe_model(const std::string& name, const LlamaShapes& model);

/// 12345678 as "12,345,678".
std::string with_commas(std::int64_t value);
/// Bytes as GiB with three digits ("0.087 GiB").
std::string gib(std::int64_t bytes);

}  // namespace koios
