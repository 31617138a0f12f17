#include "train/save_staging.hpp"

#include <utility>

#include "core/error.hpp"
#include "runtime/copy.hpp"

namespace koios {
namespace {

/// In one copy: long enough for the full rate, short enough that the next batch's upload, which
/// shares the engine on some devices, comes in between.
constexpr std::int64_t kPieceBytes = std::int64_t{64} << 20;

/// One after the other from `at` on.
SavedValues values_at(void* at, std::int64_t elements, DType moments) {
  const AnyRef master{at, elements, DType::float32};
  const AnyRef exp_avg{master.at(elements), elements, moments};
  return {master.as<float>(), exp_avg, {exp_avg.at(elements), elements, moments}};
}

}  // namespace

std::int64_t SaveStaging::bytes(const ShardLayout& layout, DType moments) {
  return (size_of(DType::float32) + 2 * size_of(moments)) * layout.shard_size();
}

SaveStaging::SaveStaging(Backend backend, const ShardLayout& layout, DType moments)
    : backend_(backend),
      elements_(layout.shard_size()),
      moments_(moments),
      bytes_(bytes(layout, moments)),
      stream_(backend, "save"),
      ready_(backend),
      copied_(backend) {}

void SaveStaging::allocate() { memory_.emplace(backend_, bytes_); }

void SaveStaging::copy_from(const SavedValues& values, Stream& compute) {
  KOIOS_REQUIRE(memory_, "no memory to copy to");
  memory_->pin();
  const SavedValues here = values_at(memory_->data(), elements_, moments_);
  ready_.record(compute);
  stream_.wait(ready_);
  for (const auto& [to, from] :
       {std::pair(any(here.master), any(values.master)), std::pair(here.exp_avg, values.exp_avg),
        std::pair(here.exp_avg_sq, values.exp_avg_sq)}) {
    for (const Range& piece : in_pieces({0, elements_}, kPieceBytes / size_of(from.dtype))) {
      copy(stream_, slice(to, piece), slice(from, piece));
    }
  }
  copied_.record(stream_);
}

SavedValues SaveStaging::wait() {
  if (backend_ == Backend::cuda) copied_.synchronize();  // host streams belong to one thread
  return values_at(memory_->data(), elements_, moments_);
}

}  // namespace koios
