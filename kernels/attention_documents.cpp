#include "kernels/detail/attention_documents.hpp"

#include <Kokkos_Core.hpp>

#include "core/error.hpp"
#include "core/host_device.hpp"
#include "kernels/detail/launch.hpp"

namespace koios::detail {
namespace {

struct FillTables {
  const std::int32_t* begin_D1;
  std::int64_t count;      // of the batch
  std::int64_t documents;  // of the plan
  std::int32_t* length;
  std::int64_t* offset;
  std::int64_t step;
  std::int64_t pitches;
  std::int64_t pitch[DocumentTables::kMostPitches];

  KOIOS_HOST_DEVICE void operator()(std::int64_t i) const {
    const bool exists = i < count;
    const std::int64_t begin = begin_D1[exists ? i : count];
    if (i < documents) {
      length[i] = exists ? static_cast<std::int32_t>(begin_D1[i + 1] - begin) : 0;
    }
    for (std::int64_t p = 0; p < pitches; ++p) offset[p * step + i] = begin * pitch[p];
  }
};

}  // namespace

void fill_document_tables(Stream& stream, const DocumentTables& tables, std::byte* memory,
                          std::span<const std::int64_t> pitches,
                          Ref<const std::int32_t, 1> begin_D1) {
  const std::int64_t count = begin_D1.size() - 1;
  KOIOS_REQUIRE(count <= tables.documents && std::ssize(pitches) <= DocumentTables::kMostPitches,
                count, " documents for a plan of ", tables.documents, ", ", pitches.size(),
                " pitches");
  FillTables fill{.begin_D1 = begin_D1.data,
                  .count = count,
                  .documents = tables.documents,
                  .length = reinterpret_cast<std::int32_t*>(memory),
                  .offset = reinterpret_cast<std::int64_t*>(memory + tables.offsets),
                  .step = tables.step / std::int64_t{sizeof(std::int64_t)},
                  .pitches = std::ssize(pitches),
                  .pitch = {}};
  for (std::size_t p = 0; p < pitches.size(); ++p) fill.pitch[p] = pitches[p];
  using Range = Kokkos::RangePolicy<Kokkos::Cuda, Kokkos::IndexType<std::int64_t>>;
  Kokkos::parallel_for("attention_documents", Range(cuda_instance(stream), 0, tables.documents + 1),
                       fill);
}

}  // namespace koios::detail
