#include "train/save_staging.hpp"

#include "core/error.hpp"
#include "runtime/copy.hpp"

namespace koios {
namespace {

/// In one copy: long enough for the full rate, short enough that the next batch's upload, which
/// shares the engine on some devices, comes in between.
constexpr std::int64_t kPiece = std::int64_t{16} << 20;

}  // namespace

std::int64_t SaveStaging::bytes(const ShardLayout& layout) {
  return 3 * layout.shard_size() * std::int64_t{sizeof(float)};
}

SaveStaging::SaveStaging(Backend backend, const ShardLayout& layout)
    : backend_(backend),
      elements_(layout.shard_size()),
      stream_(backend, "save"),
      ready_(backend),
      copied_(backend) {}

void SaveStaging::allocate() {
  memory_.emplace(backend_, 3 * elements_ * std::int64_t{sizeof(float)});
}

void SaveStaging::copy_from(const SavedValues& values, Stream& compute) {
  KOIOS_REQUIRE(memory_, "no memory to copy to");
  memory_->pin();
  auto* to = reinterpret_cast<float*>(memory_->data());
  ready_.record(compute);
  stream_.wait(ready_);
  for (const Ref<float, 1>& from : {values.master, values.exp_avg, values.exp_avg_sq}) {
    for (const Range& piece : in_pieces({0, elements_}, kPiece)) {
      copy(stream_, any(make_ref(to + piece.first, piece.count)), any(slice(from, piece)));
    }
    to += elements_;
  }
  copied_.record(stream_);
}

SavedValues SaveStaging::wait() {
  if (backend_ == Backend::cuda) copied_.synchronize();  // host streams belong to one thread
  auto* at = reinterpret_cast<float*>(memory_->data());
  return {make_ref(at, elements_), make_ref(at + elements_, elements_),
          make_ref(at + 2 * elements_, elements_)};
}

}  // namespace koios
