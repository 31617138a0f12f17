// One allocation of every rank of a group on one node, mapped into all of them (CUDA IPC), and
// words by which their streams tell each other how far they are.
//
// The words are counters in each GPU's memory, written by the other GPUs' streams and waited for by
// its own (cuStreamBatchMemOp); the host takes no part.
#pragma once

#include <cuda_runtime_api.h>
#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/mpi_communicator.hpp"
#include "core/ref.hpp"
#include "runtime/handle.hpp"

namespace koios {

void close_device_memory(std::byte* data) noexcept;
void close_mapping(std::byte* data) noexcept;

class PeerMemory {
 public:
  /// Collective over `group`. `memory` is one cudaMalloc, of the same size and use on every rank.
  /// Null on all ranks where one cannot reach another's, and why.
  static std::shared_ptr<const PeerMemory> connect(MPI_Comm group, std::span<std::byte> memory,
                                                   std::string& why_not);
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;
  /// Collective, with all streams through: afterwards `memory` may be freed on every rank.
  ~PeerMemory();

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  /// Whether these elements lie in this rank's.
  bool holds(AnyRef data) const;
  /// On rank `peer`, what lies there where `data` lies here.
  std::byte* at(int peer, const void* data) const;

  /// `index` tells words apart, `count` rises with every use of one.
  struct Word {
    int index = 0;
    std::uint32_t count = 0;
  };
  static constexpr int kWords = 8;
  /// Once `stream` is here, tells all others.
  void say(Word word, cudaStream_t stream) const;
  /// `stream` waits until all others have said it.
  void wait_for(Word word, cudaStream_t stream) const;

 private:
  using DeviceMemory = Handle<std::byte*, &close_device_memory>;
  using Mapping = Handle<std::byte*, &close_mapping>;
  struct Peer {
    Mapping memory;
    Mapping words;
  };

  PeerMemory(MpiComm group, int rank, int ranks, std::span<std::byte> memory);
  void map(std::string& why_not);
  /// Where `from` says it, in one GPU's words.
  static std::uintptr_t address(const std::byte* words, int from, Word word);

  MpiComm group_;
  int rank_;
  int ranks_;
  std::span<std::byte> memory_;
  DeviceMemory words_;
  std::vector<Peer> peers_;  // by rank; this rank's is empty
};

}  // namespace koios
