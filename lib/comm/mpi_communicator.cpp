// Best of 12, GB/s each rank receives, float data; 2 cores (4 ranks share them), Open MPI 4.1.4:
//              pairwise  Iallgather  Allgather   pairwise  Ialltoall  Alltoall  Reduce_scatter
//   2 ranks, 21 MB  8.0         5.2        4.8        4.1        1.9       1.2             0.3
//   2 ranks, 94 MB  3.2         3.2        3.0        2.0        1.5       1.3             0.4
//   4 ranks, 21 MB  1.7         1.6        1.5        1.0        1.6       0.9             0.4
//   4 ranks, 94 MB  1.6         1.7        1.2        1.0        0.9       1.0             0.3
#include "comm/mpi_communicator.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "comm/rank_order.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/stopwatch.hpp"
#include "core/unwinding.hpp"
#include "runtime/check_mpi.hpp"
#include "runtime/copy.hpp"

namespace koios {
namespace {

constexpr std::int64_t kSliceBytes = std::int64_t{1} << 30;  // MPI counts are int
constexpr std::int64_t kScratchAlignment = 64;
constexpr int kCollectiveTag = 1;
constexpr int kPointToPointTag = 2;

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return MPI_FLOAT;
    case DType::float64:
      return MPI_DOUBLE;
    case DType::int32:
      return MPI_INT32_T;
    case DType::int64:
      return MPI_INT64_T;
    default:
      KOIOS_REQUIRE(false, "MPI has no ", to_string(dtype));
  }
}

/// Calls piece(pointer, count) for pieces of at most kSliceBytes.
template <class Piece>
void for_slices(void* data, std::int64_t count, std::int64_t element_bytes, Piece piece) {
  const std::int64_t most = kSliceBytes / element_bytes;
  for (std::int64_t begin = 0; begin < count; begin += most) {
    piece(static_cast<std::byte*>(data) + begin * element_bytes,
          static_cast<int>(std::min(most, count - begin)));
  }
}

}  // namespace

void close_mpi_comm(MPI_Comm comm) noexcept {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0 && !is_unwinding()) MPI_Comm_free(&comm);
}

int first_world_rank(MPI_Comm comm) {
  MPI_Group group = MPI_GROUP_NULL;
  MPI_Group world = MPI_GROUP_NULL;
  check_mpi(MPI_Comm_group(comm, &group), "MPI_Comm_group");
  check_mpi(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
  const int first = 0;
  int in_world = 0;
  check_mpi(MPI_Group_translate_ranks(group, 1, &first, world, &in_world),
            "MPI_Group_translate_ranks");
  MPI_Group_free(&group);
  MPI_Group_free(&world);
  return in_world;
}

/// Messages under way, and what is to be done once they are through.
class MpiCommunicator::Exchange {
 public:
  Exchange(MpiCommunicator& owner, std::int64_t number) : owner_(owner), number_(number) {}

  void send(const void* data, std::int64_t bytes, int to, int tag) {
    for_slices(const_cast<void*>(data), bytes, 1, [&](std::byte* piece, int count) {
      check_mpi(MPI_Isend(piece, count, MPI_BYTE, to, tag, owner_.native(), next()), "MPI_Isend");
    });
  }
  void recv(void* data, std::int64_t bytes, int from, int tag) {
    for_slices(data, bytes, 1, [&](std::byte* piece, int count) {
      check_mpi(MPI_Irecv(piece, count, MPI_BYTE, from, tag, owner_.native(), next()), "MPI_Irecv");
    });
  }
  void then(std::function<void()> finish) { finish_ = std::move(finish); }

  bool is_done() const { return done_; }
  void complete() {
    if (done_) return;
    done_ = true;
    const Stopwatch watch;
    check_mpi(MPI_Waitall(narrow<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE),
              "MPI_Waitall");
    if (finish_) finish_();
    owner_.host_seconds_ += watch.seconds();
    if (owner_.recorder_ != nullptr) owner_.recorder_->completed(number_);
  }

 private:
  MPI_Request* next() { return &requests_.emplace_back(MPI_REQUEST_NULL); }

  MpiCommunicator& owner_;
  std::int64_t number_;
  std::vector<MPI_Request> requests_;
  std::function<void()> finish_;
  bool done_ = false;
};

MpiCommunicator::MpiCommunicator(std::string name, MpiComm comm, FlightRecorder* recorder)
    : Communicator(std::move(name), 0, 1), comm_(std::move(comm)), recorder_(recorder) {
  check_mpi(MPI_Comm_set_errhandler(native(), MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_rank(native(), &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(native(), &size_), "MPI_Comm_size");
  if (recorder_ != nullptr)
    trace_id_ = recorder_->add_communicator(name_, rank_, size_, first_world_rank(native()));
}

MpiCommunicator::~MpiCommunicator() = default;

std::shared_ptr<MpiCommunicator::Exchange> MpiCommunicator::start(CommOp op, std::int64_t bytes) {
  ++traffic_.calls;
  const std::int64_t number = recorder_ != nullptr ? recorder_->issued(trace_id_, op, bytes) : 0;
  return std::make_shared<Exchange>(*this, number);
}

void MpiCommunicator::defer(const std::shared_ptr<Exchange>& exchange, Stream& stream,
                            std::initializer_list<AnyRef> touched) {
  stream.defer([exchange] { exchange->complete(); }, touched);
}

void MpiCommunicator::all_gather(AnyRef mine, AnyRef full, Stream& stream) {
  const AnyRef place = part(full, rank_);
  KOIOS_REQUIRE(mine.dtype == full.dtype && mine.count == place.count, "all_gather of ", mine.count,
                " each of ", size_, " ranks into ", full.count);
  const std::int64_t part_bytes = mine.bytes();
  if (mine.data != place.data) copy(stream, place, mine);
  if (size_ == 1 || part_bytes == 0) return;
  stream.complete_touching(full);
  const Stopwatch watch;
  const auto exchange = start(CommOp::all_gather, full.bytes());
  for (int d = 1; d < size_; ++d) {
    const int from = (rank_ + size_ - d) % size_;
    exchange->recv(part(full, from).data, part_bytes, from, kCollectiveTag);
  }
  for (int d = 1; d < size_; ++d) {
    exchange->send(place.data, part_bytes, (rank_ + d) % size_, kCollectiveTag);
  }
  defer(exchange, stream, {full});
  traffic_.all_gather_bytes += (size_ - 1) * part_bytes;
  host_seconds_ += watch.seconds();
}

void MpiCommunicator::reduce_scatter(AnyRef full, AnyRef mine, ReduceOp op, Stream& stream) {
  KOIOS_REQUIRE(mine.dtype == full.dtype && div_exact(full.count, size_) == mine.count,
                "reduce_scatter of ", full.count, " over ", size_, " ranks into ", mine.count);
  if (size_ == 1) return copy(stream, mine, full);
  if (mine.count == 0) return;
  stream.complete_touching(full);
  stream.complete_touching(mine);
  const std::int64_t part_bytes = mine.bytes();
  std::byte* scratch = take_scratch((size_ - 1) * part_bytes);
  const Stopwatch watch;
  const auto exchange = start(CommOp::reduce_scatter, full.bytes());
  std::vector<const void*> parts(static_cast<std::size_t>(size_));
  parts[static_cast<std::size_t>(rank_)] = part(full, rank_).data;
  for (int d = 1; d < size_; ++d) {
    const int from = (rank_ + size_ - d) % size_;
    std::byte* place = scratch + (d - 1) * part_bytes;
    parts[static_cast<std::size_t>(from)] = place;
    exchange->recv(place, part_bytes, from, kCollectiveTag);
  }
  for (int d = 1; d < size_; ++d) {
    const int to = (rank_ + d) % size_;
    exchange->send(part(full, to).data, part_bytes, to, kCollectiveTag);
  }
  exchange->then([mine, op, parts = std::move(parts)] { combine_in_rank_order(mine, parts, op); });
  scratch_users_.push_back(exchange);
  defer(exchange, stream, {full, mine});
  traffic_.reduce_scatter_bytes += (size_ - 1) * part_bytes;
  host_seconds_ += watch.seconds();
}

void MpiCommunicator::set_reduce_scratch(AnyRef bytes) {
  for (const auto& exchange : scratch_users_) exchange->complete();
  scratch_users_.clear();
  scratch_ = bytes;
  scratch_used_ = 0;
}

std::byte* MpiCommunicator::take_scratch(std::int64_t bytes) {
  KOIOS_REQUIRE(bytes <= scratch_.bytes(), name_, ": reduce_scatter needs ", bytes,
                " bytes of scratch and has ", scratch_.bytes());
  std::erase_if(scratch_users_, [](const auto& exchange) { return exchange->is_done(); });
  // Completed here rather than on the stream: they were started, so this only does it earlier.
  if (scratch_used_ + bytes > scratch_.bytes()) {
    for (const auto& exchange : scratch_users_) exchange->complete();
    scratch_users_.clear();
  }
  if (scratch_users_.empty()) scratch_used_ = 0;
  std::byte* place = static_cast<std::byte*>(scratch_.data) + scratch_used_;
  scratch_used_ = std::min(scratch_.bytes(), round_up(scratch_used_ + bytes, kScratchAlignment));
  return place;
}

void MpiCommunicator::block(CommOp op, std::int64_t bytes, const std::function<void()>& call) {
  ++traffic_.calls;
  const std::int64_t number = recorder_ != nullptr ? recorder_->issued(trace_id_, op, bytes) : 0;
  const Stopwatch watch;
  call();
  host_seconds_ += watch.seconds();
  if (recorder_ != nullptr) recorder_->completed(number);
}

void MpiCommunicator::all_reduce(AnyRef inout, ReduceOp op, Stream& stream) {
  if (size_ == 1 || inout.count == 0) return;
  stream.complete_touching(inout);
  const MPI_Op mpi_op = op == ReduceOp::sum ? MPI_SUM : MPI_MAX;
  const auto reduce = [&](void* data, DType dtype) {
    for_slices(data, inout.count, size_of(dtype), [&](std::byte* piece, int count) {
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, piece, count, mpi_type(dtype), mpi_op, native()),
                "MPI_Allreduce");
    });
  };
  block(CommOp::all_reduce, inout.bytes(), [&] {
    if (inout.dtype != DType::bfloat16) return reduce(inout.data, inout.dtype);
    auto* narrow_data = static_cast<bf16*>(inout.data);
    wide_.resize(static_cast<std::size_t>(inout.count));
    std::transform(narrow_data, narrow_data + inout.count, wide_.begin(),
                   [](bf16 x) { return static_cast<float>(x); });
    reduce(wide_.data(), DType::float32);
    std::transform(wide_.begin(), wide_.end(), narrow_data, [](float x) { return bf16(x); });
  });
  traffic_.all_reduce_bytes += 2 * (size_ - 1) * inout.bytes() / size_;
}

void MpiCommunicator::broadcast(AnyRef inout, int root, Stream& stream) {
  if (size_ == 1 || inout.count == 0) return;
  stream.complete_touching(inout);
  block(CommOp::broadcast, inout.bytes(), [&] {
    for_slices(inout.data, inout.bytes(), 1, [&](std::byte* piece, int count) {
      check_mpi(MPI_Bcast(piece, count, MPI_BYTE, root, native()), "MPI_Bcast");
    });
  });
}

void MpiCommunicator::send(AnyRef data, int to, Stream& stream) {
  if (data.count == 0) return;
  stream.complete_touching(data);
  const Stopwatch watch;
  const auto exchange = start(CommOp::send, data.bytes());
  exchange->send(data.data, data.bytes(), to, kPointToPointTag);
  defer(exchange, stream, {data});
  traffic_.send_bytes += data.bytes();
  host_seconds_ += watch.seconds();
}

void MpiCommunicator::recv(AnyRef data, int from, Stream& stream) {
  if (data.count == 0) return;
  stream.complete_touching(data);
  const Stopwatch watch;
  const auto exchange = start(CommOp::recv, data.bytes());
  exchange->recv(data.data, data.bytes(), from, kPointToPointTag);
  defer(exchange, stream, {data});
  host_seconds_ += watch.seconds();
}

}  // namespace koios
