#include "comm/detail/peer_copies.hpp"

#include <algorithm>
#include <utility>

#include "comm/detail/sum_parts.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"
#include "runtime/check_cuda.hpp"

namespace koios {
namespace {

/// Of the parts of one reduce_scatter together; its `full` starts at multiples of no less, so that
/// a scratch as large as all `full` of a run holds them.
constexpr std::int64_t kScratchAlignment = 256;
/// PeerMemory::connect has used the first count of the first word.
constexpr std::uint32_t kFirstCount = 1;

}  // namespace

void close_cuda_event(cudaEvent_t event) noexcept { cudaEventDestroy(event); }

PeerCopies::PeerCopies(std::shared_ptr<const PeerMemory> memory, int channel)
    : memory_(std::move(memory)),
      ready_{2 * channel, kFirstCount},
      done_{2 * channel + 1, kFirstCount} {
  cudaEvent_t made = nullptr;
  check_cuda(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  ended_ = CudaEvent(made);
}

AnyRef PeerCopies::part(AnyRef full, int rank) const {
  const std::int64_t count = div_exact(full.count, memory_->ranks());
  return {static_cast<std::byte*>(full.data) + rank * count * size_of(full.dtype), count,
          full.dtype};
}

void PeerCopies::add_all_gather(AnyRef mine, AnyRef full) {
  KOIOS_REQUIRE(memory_->holds(full), "all_gather outside the shared memory");
  const int ranks = memory_->ranks();
  const AnyRef place = part(full, memory_->rank());
  if (mine.data != place.data) own_.push_back({place.data, mine.data, mine.bytes()});
  // Each begins with another peer, so that no GPU is written to by all at once.
  for (int d = 1; d < ranks; ++d) {
    const int to = (memory_->rank() + d) % ranks;
    copies_.push_back({memory_->at(to, place.data), mine.data, mine.bytes()});
  }
}

void PeerCopies::add_reduce_scatter(AnyRef full, AnyRef mine) {
  KOIOS_REQUIRE(memory_->holds(scratch_), "reduce_scatter outside the shared memory");
  const int ranks = memory_->ranks();
  const AnyRef place = part(full, memory_->rank());
  Sum sum{mine, std::vector<const void*>(static_cast<std::size_t>(ranks), place.data)};
  // One place for each distance from the rank that sends.
  std::byte* const landing = take_scratch((ranks - 1) * mine.bytes());
  for (int d = 1; d < ranks; ++d) {
    std::byte* const of_distance = landing + (d - 1) * mine.bytes();
    const int to = (memory_->rank() + d) % ranks;
    const int from = (memory_->rank() + ranks - d) % ranks;
    copies_.push_back({memory_->at(to, of_distance), part(full, to).data, mine.bytes()});
    sum.parts[static_cast<std::size_t>(from)] = of_distance;
  }
  sums_.push_back(std::move(sum));
}

void PeerCopies::add_exchange(const Communicator::Exchange& e) {
  KOIOS_REQUIRE(memory_->holds(e.received) && memory_->holds(e.target),
                "exchange outside the shared memory");
  copies_.push_back({memory_->at(e.to, e.target.data), e.data.data, e.data.bytes()});
}

std::byte* PeerCopies::take_scratch(std::int64_t bytes) {
  KOIOS_REQUIRE(scratch_used_ + bytes <= scratch_.bytes(), "reduce_scatter needs ",
                scratch_used_ + bytes, " bytes of scratch and has ", scratch_.bytes());
  std::byte* place = static_cast<std::byte*>(scratch_.data) + scratch_used_;
  scratch_used_ = std::min(scratch_.bytes(), round_up(scratch_used_ + bytes, kScratchAlignment));
  return place;
}

void PeerCopies::run(cudaStream_t stream) {
  // The counts of the words only rise.
  if (last_stream_ != nullptr && last_stream_ != stream) {
    check_cuda(cudaStreamWaitEvent(stream, ended_.get(), 0), "cudaStreamWaitEvent");
  }
  ++ready_.count;
  ++done_.count;
  enqueue(own_, stream);
  memory_->say(ready_, stream);
  memory_->wait_for(ready_, stream);
  enqueue(copies_, stream);
  memory_->say(done_, stream);
  memory_->wait_for(done_, stream);
  for (const Sum& sum : sums_) sum_parts(stream, sum.mine, sum.parts);
  own_.clear();
  copies_.clear();
  sums_.clear();
  scratch_used_ = 0;
  check_cuda(cudaEventRecord(ended_.get(), stream), "cudaEventRecord");
  last_stream_ = stream;
}

void PeerCopies::enqueue(const std::vector<Copy>& copies, cudaStream_t stream) {
  for (const Copy& copy : copies) {
    check_cuda(cudaMemcpyAsync(copy.to, copy.from, static_cast<std::size_t>(copy.bytes),
                               cudaMemcpyDeviceToDevice, stream),
               "cudaMemcpyAsync");
  }
}

}  // namespace koios
