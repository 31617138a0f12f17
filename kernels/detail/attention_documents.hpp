// Documents as cuDNN's attention of variable lengths reads them, made on the device for each call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/ref.hpp"
#include "kernels/detail/attention_plan.hpp"
#include "runtime/stream.hpp"

namespace koios::detail {

/// Fills the tables at `memory`; one of each pitch, in their order.
void fill_document_tables(Stream& stream, const DocumentTables& tables, std::byte* memory,
                          std::span<const std::int64_t> pitches,
                          Ref<const std::int32_t, 1> begin_D1);

}  // namespace koios::detail
