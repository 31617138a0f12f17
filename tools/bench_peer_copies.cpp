// bench_peer_copies: every GPU of the machine copies a part of every other one's memory at the same
// time, as shards travel (lib/comm/detail/peer_copies), in one process. How fast by who copies (the
// one that lacks it, or the one that has it), and by how the copies are given to the driver; then
// how long small copies take that were begun after large ones, on streams of their own.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "runtime/check_cuda.hpp"

namespace koios {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kMemory = 1024 * kMiB;
constexpr std::size_t kLater = 768 * kMiB;  // where the small copies begin
constexpr int kRuns = 20;

enum class Way { one_stream, one_call, stream_of_each };
constexpr Way kWays[] = {Way::one_stream,
#if CUDART_VERSION >= 13000
                         Way::one_call,
#endif
                         Way::stream_of_each};

const char* name(Way way) {
  switch (way) {
    case Way::one_stream:
      return "one after the other";
    case Way::one_call:
      return "one call for all";
    case Way::stream_of_each:
      return "a stream for each GPU";
  }
  return "";
}

struct Case {
  const char* name;
  std::vector<std::size_t> parts;  // bytes, from every other GPU
};

/// A GPU's memory, and streams and events that live as long as the program.
struct Gpu {
  char* from = nullptr;
  char* to = nullptr;
  struct Lane {
    cudaStream_t stream = nullptr;
    std::vector<cudaStream_t> of_each;  // by distance
    cudaEvent_t begun = nullptr, ended = nullptr;
    std::vector<cudaEvent_t> each_ended;
  };
  Lane large, small;
};

struct Copy {
  void* to;
  const void* from;
  std::size_t bytes;
  int distance;  // to the other GPU
};

class Bench {
 public:
  Bench() {
    check_cuda(cudaGetDeviceCount(&count_), "cudaGetDeviceCount");
    gpus_.resize(static_cast<std::size_t>(count_));
    for (int g = 0; g < count_; ++g) set_up(g);
  }
  int count() const { return count_; }

  /// GB/s that arrive at each GPU.
  double rate(const Case& c, bool pushes, Way way) {
    std::size_t bytes = 0;
    for (const std::size_t part : c.parts) bytes += part * static_cast<std::size_t>(count_ - 1);
    double seconds = 0;
    for (int round = 0; round < 2; ++round) {  // the first one warms up
      synchronize();
      const auto start = std::chrono::steady_clock::now();
      for (int run = 0; run < kRuns; ++run) {
        for (int g = 0; g < count_; ++g) enqueue(g, gpu(g).large, c.parts, 0, pushes, way);
      }
      synchronize();
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    return static_cast<double>(bytes) * kRuns / seconds / 1e9;
  }

  /// Milliseconds until small copies have arrived everywhere that were begun after large ones.
  double behind(const Case& large, const Case& small, bool pushes, Way way) {
    float slowest = 0;
    for (int round = 0; round < 2; ++round) {
      slowest = 0;
      for (int g = 0; g < count_; ++g) enqueue(g, gpu(g).large, large.parts, 0, pushes, way);
      for (int g = 0; g < count_; ++g) enqueue(g, gpu(g).small, small.parts, kLater, pushes, way);
      synchronize();
      for (const Gpu& g : gpus_) {
        float ms = 0;
        check_cuda(cudaEventElapsedTime(&ms, g.small.begun, g.small.ended), "cudaEventElapsedTime");
        slowest = std::max(slowest, ms);
      }
    }
    return slowest;
  }

 private:
  Gpu& gpu(int g) { return gpus_[static_cast<std::size_t>(g)]; }

  void set_up(int g) {
    check_cuda(cudaSetDevice(g), "cudaSetDevice");
    for (int other = 0; other < count_; ++other) {
      if (other != g)
        check_cuda(cudaDeviceEnablePeerAccess(other, 0), "cudaDeviceEnablePeerAccess");
    }
    for (char** memory : {&gpu(g).from, &gpu(g).to}) {
      void* taken = nullptr;
      check_cuda(cudaMalloc(&taken, kMemory), "cudaMalloc");
      *memory = static_cast<char*>(taken);
    }
    for (Gpu::Lane* lane : {&gpu(g).large, &gpu(g).small}) {
      lane->of_each.resize(static_cast<std::size_t>(count_));
      lane->each_ended.resize(static_cast<std::size_t>(count_));
      const auto make_stream = [](cudaStream_t* stream) {
        check_cuda(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking),
                   "cudaStreamCreateWithFlags");
      };
      make_stream(&lane->stream);
      for (cudaStream_t& stream : lane->of_each) make_stream(&stream);
      for (cudaEvent_t& event : lane->each_ended)
        check_cuda(cudaEventCreate(&event), "cudaEventCreate");
      check_cuda(cudaEventCreate(&lane->begun), "cudaEventCreate");
      check_cuda(cudaEventCreate(&lane->ended), "cudaEventCreate");
    }
  }

  void synchronize() {
    for (int g = 0; g < count_; ++g) {
      check_cuda(cudaSetDevice(g), "cudaSetDevice");
      check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    }
  }

  std::vector<Copy> copies_of(int g, const std::vector<std::size_t>& parts, std::size_t place,
                              bool pushes) {
    std::vector<Copy> copies;
    for (const std::size_t part : parts) {
      for (int distance = 1; distance < count_; ++distance) {
        const int other = (g + distance) % count_;
        const int target = pushes ? other : g;
        const int source = pushes ? g : other;
        copies.push_back({gpu(target).to + place, gpu(source).from + place, part, distance});
        place += part;
      }
    }
    return copies;
  }

  void enqueue(int g, Gpu::Lane& lane, const std::vector<std::size_t>& parts, std::size_t place,
               bool pushes, Way way) {
    check_cuda(cudaSetDevice(g), "cudaSetDevice");
    check_cuda(cudaEventRecord(lane.begun, lane.stream), "cudaEventRecord");
    const std::vector<Copy> copies = copies_of(g, parts, place, pushes);
    if (way == Way::one_call) {
      in_one_call(copies, lane.stream);
    } else {
      for (const Copy& copy : copies) {
        cudaStream_t stream = lane.stream;
        if (way == Way::stream_of_each) {
          stream = lane.of_each[static_cast<std::size_t>(copy.distance)];
          check_cuda(cudaStreamWaitEvent(stream, lane.begun, 0), "cudaStreamWaitEvent");
        }
        check_cuda(
            cudaMemcpyAsync(copy.to, copy.from, copy.bytes, cudaMemcpyDeviceToDevice, stream),
            "cudaMemcpyAsync");
      }
    }
    if (way == Way::stream_of_each) {
      for (std::size_t distance = 1; distance < lane.of_each.size(); ++distance) {
        check_cuda(cudaEventRecord(lane.each_ended[distance], lane.of_each[distance]),
                   "cudaEventRecord");
        check_cuda(cudaStreamWaitEvent(lane.stream, lane.each_ended[distance], 0),
                   "cudaStreamWaitEvent");
      }
    }
    check_cuda(cudaEventRecord(lane.ended, lane.stream), "cudaEventRecord");
  }

  static void in_one_call(const std::vector<Copy>& copies, cudaStream_t stream) {
#if CUDART_VERSION >= 13000
    std::vector<void*> to;
    std::vector<const void*> from;
    std::vector<std::size_t> bytes;
    for (const Copy& copy : copies) {
      to.push_back(copy.to);
      from.push_back(copy.from);
      bytes.push_back(copy.bytes);
    }
    cudaMemcpyAttributes attributes{};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    attributes.flags = cudaMemcpyFlagPreferOverlapWithCompute;
    std::size_t first = 0;
    check_cuda(cudaMemcpyBatchAsync(to.data(), from.data(), bytes.data(), to.size(), &attributes,
                                    &first, 1, stream),
               "cudaMemcpyBatchAsync");
#else
    (void)copies, (void)stream;  // not among kWays
#endif
  }

  int count_ = 0;
  std::vector<Gpu> gpus_;
};

void run() {
  Bench bench;
  if (bench.count() < 2) {
    std::printf("there is one GPU only\n");
    return;
  }
  const Case block = {
      "a block of 7B in bfloat16, nine parameters",
      {8 * kMiB, 8 * kMiB, 8 * kMiB, 8 * kMiB, 22544384, 22544384, 22544384, 8192, 8192}};
  const Case keys = {"keys and values of some heads", {2 * kMiB, 2 * kMiB}};
  const Case cases[] = {
      block, {"one part of 64 MiB", {64 * kMiB}}, keys, {"one part of 64 KiB", {65536}}};
  std::printf("%d GPUs; GB/s that arrive at each\n", bench.count());
  for (const Case& c : cases) {
    for (const bool pushes : {false, true}) {
      for (const Way way : kWays) {
        std::printf("%-44s %-6s %-22s %8.1f\n", c.name, pushes ? "push" : "pull", name(way),
                    bench.rate(c, pushes, way));
      }
    }
  }
  std::printf("%s, begun after %s: ms\n", keys.name, block.name);
  for (const bool pushes : {false, true}) {
    for (const Way way : kWays) {
      std::printf("%-44s %-6s %-22s %8.3f\n", "", pushes ? "push" : "pull", name(way),
                  bench.behind(block, keys, pushes, way));
    }
  }
}

}  // namespace
}  // namespace koios

int main() {
  try {
    koios::run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
