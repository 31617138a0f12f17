#include "comm/detail/peer_memory.hpp"

#include <cuda.h>

#include <array>
#include <functional>
#include <source_location>
#include <string>
#include <utility>

#include "comm/detail/sum_parts.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/unwinding.hpp"
#include "runtime/check_cuda.hpp"
#include "runtime/check_mpi.hpp"
#include "runtime/first_problem.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

/// A whole block of the driver's: a smaller allocation would share one with others.
constexpr std::size_t kWordBytes = std::size_t{2} << 20;

/// The driver's function of this name, found by the runtime: nothing links the driver.
template <class Function>
Function driver_function(const char* name) {
  constexpr unsigned kSince = 12000;  // the version whose signature <cuda.h> declares
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check_cuda(cudaGetDriverEntryPointByVersion(name, &function, kSince, cudaEnableDefault, &found),
             "cudaGetDriverEntryPointByVersion");
  if (found != cudaDriverEntryPointSuccess) throw UserError(cat("the driver has no ", name));
  return reinterpret_cast<Function>(function);
}

void enqueue(cudaStream_t stream, std::span<CUstreamBatchMemOpParams> words,
             std::source_location where = std::source_location::current()) {
  static const auto call = driver_function<decltype(&cuStreamBatchMemOp)>("cuStreamBatchMemOp");
  const CUresult result = call(stream, static_cast<unsigned>(words.size()), words.data(), 0);
  if (result != CUDA_SUCCESS) {
    throw LibraryError("CUDA", "cuStreamBatchMemOp", cat("error ", static_cast<int>(result)),
                       where);
  }
}

cudaIpcMemHandle_t handle_of(void* data) {
  cudaIpcMemHandle_t handle{};
  check_cuda(cudaIpcGetMemHandle(&handle, data), "cudaIpcGetMemHandle");
  return handle;
}

std::byte* open(const cudaIpcMemHandle_t& handle) {
  void* data = nullptr;
  const cudaError_t code = cudaIpcOpenMemHandle(&data, handle, cudaIpcMemLazyEnablePeerAccess);
  if (code != cudaSuccess) {
    cudaGetLastError();
    throw UserError(
        cat("a GPU's memory cannot be mapped by another rank (", cudaGetErrorString(code),
            "); CUDA IPC needs GPUs that reach each other, and ranks in one container"));
  }
  return static_cast<std::byte*>(data);
}

/// What work() throws on the lowest rank that fails, on every rank; "" where none does.
template <class Work>
std::string problem_of(MPI_Comm group, const Work& work) {
  const auto problem = first_problem(group, work);
  return problem ? problem->text : "";
}

/// Collective: throws where the ranks are not of one node, or their memory differs.
void require_one_node(MPI_Comm group, std::size_t bytes, int ranks) {
  MPI_Comm node = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(group, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
            "MPI_Comm_split_type");
  int on_node = 0;
  check_mpi(MPI_Comm_size(node, &on_node), "MPI_Comm_size");
  check_mpi(MPI_Comm_free(&node), "MPI_Comm_free");
  // NCCL_HOSTID may part what shares memory.
  const auto name = static_cast<std::int64_t>(std::hash<std::string>{}(node_name()) >> 1);
  const auto size = static_cast<std::int64_t>(bytes);
  std::array<std::int64_t, 4> bounds = {size, -size, name, -name};
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, bounds.data(), 4, MPI_INT64_T, MPI_MAX, group),
            "MPI_Allreduce");
  if (on_node != ranks || bounds[2] != -bounds[3]) {
    throw UserError("the ranks are on several nodes");
  }
  if (ranks > kMaxParts) throw UserError(cat("there are more than ", kMaxParts, " ranks"));
  if (bounds[0] != -bounds[1]) throw UserError("the ranks' memory plans differ");
}

}  // namespace

// Both wait for the device, whose streams may wait for a word of a rank that is gone when an
// exception ends the job.
void close_device_memory(std::byte* data) noexcept {
  if (!is_unwinding()) cudaFree(data);
}
void close_mapping(std::byte* data) noexcept {
  if (!is_unwinding()) cudaIpcCloseMemHandle(data);
}

PeerMemory::PeerMemory(MpiComm group, int rank, int ranks, std::span<std::byte> memory)
    : group_(std::move(group)),
      rank_(rank),
      ranks_(ranks),
      memory_(memory),
      peers_(static_cast<std::size_t>(ranks)) {}

PeerMemory::~PeerMemory() {
  if (is_unwinding()) return;
  // CUDA leaves undefined what becomes of memory that is freed while another process maps it.
  peers_.clear();
  MPI_Barrier(group_.get());
}

std::shared_ptr<const PeerMemory> PeerMemory::connect(MPI_Comm group, std::span<std::byte> memory,
                                                      std::string& why_not) {
  int rank = 0;
  int ranks = 0;
  check_mpi(MPI_Comm_rank(group, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(group, &ranks), "MPI_Comm_size");
  why_not = problem_of(group, [&] { require_one_node(group, memory.size(), ranks); });
  if (!why_not.empty()) return nullptr;
  MPI_Comm own = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(group, &own), "MPI_Comm_dup");
  const std::shared_ptr<PeerMemory> peers(new PeerMemory(MpiComm(own), rank, ranks, memory));
  peers->map(why_not);
  if (!why_not.empty()) return nullptr;
  return peers;
}

void PeerMemory::map(std::string& why_not) {
  struct Handles {
    cudaIpcMemHandle_t memory{};
    cudaIpcMemHandle_t words{};
  };
  std::vector<Handles> all(static_cast<std::size_t>(ranks_));
  Handles mine;
  why_not = problem_of(group_.get(), [&] {
    void* words = nullptr;
    check_cuda(cudaMalloc(&words, kWordBytes), "cudaMalloc");
    words_ = DeviceMemory(static_cast<std::byte*>(words));
    check_cuda(cudaMemset(words, 0, kWordBytes), "cudaMemset");
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    mine = {handle_of(memory_.data()), handle_of(words)};
  });
  if (!why_not.empty()) return;
  check_mpi(MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, all.data(), sizeof(mine), MPI_BYTE,
                          group_.get()),
            "MPI_Allgather");
  why_not = problem_of(group_.get(), [&] {
    for (int r = 0; r < ranks_; ++r) {
      const auto i = static_cast<std::size_t>(r);
      if (r == rank_) continue;
      peers_[i].memory = Mapping(open(all[i].memory));
      peers_[i].words = Mapping(open(all[i].words));
    }
  });
  // Whether words arrive is tried here, where the host can wait and nobody hangs.
  if (!why_not.empty()) return;
  why_not = problem_of(group_.get(), [&] {
    say({.count = 1}, nullptr);
    check_cuda(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
  });
  if (!why_not.empty()) return;
  why_not = problem_of(group_.get(), [&] {
    wait_for({.count = 1}, nullptr);
    check_cuda(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
  });
}

bool PeerMemory::holds(AnyRef data) const {
  const auto* begin = static_cast<const std::byte*>(data.data);
  return begin >= memory_.data() && begin + data.bytes() <= memory_.data() + memory_.size();
}

std::byte* PeerMemory::at(int peer, const void* data) const {
  return peers_[static_cast<std::size_t>(peer)].memory.get() +
         (static_cast<const std::byte*>(data) - memory_.data());
}

std::uintptr_t PeerMemory::address(const std::byte* words, int from, Word word) {
  KOIOS_REQUIRE(word.index < kWords, "word ", word.index);
  return reinterpret_cast<std::uintptr_t>(words) +
         sizeof(word.count) * static_cast<std::uintptr_t>(from * kWords + word.index);
}

void PeerMemory::say(Word word, cudaStream_t stream) const {
  std::vector<CUstreamBatchMemOpParams> all;
  for (int peer = 0; peer < ranks_; ++peer) {
    if (peer == rank_) continue;
    CUstreamBatchMemOpParams one{};
    one.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    one.writeValue.address =
        address(peers_[static_cast<std::size_t>(peer)].words.get(), rank_, word);
    one.writeValue.value = word.count;
    all.push_back(one);
  }
  enqueue(stream, all);
}

void PeerMemory::wait_for(Word word, cudaStream_t stream) const {
  std::vector<CUstreamBatchMemOpParams> all;
  for (int peer = 0; peer < ranks_; ++peer) {
    if (peer == rank_) continue;
    CUstreamBatchMemOpParams one{};
    one.waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
    one.waitValue.address = address(words_.get(), peer, word);
    one.waitValue.value = word.count;
    one.waitValue.flags = CU_STREAM_WAIT_VALUE_GEQ;
    all.push_back(one);
  }
  enqueue(stream, all);
}

}  // namespace koios
