#include "runtime/detail/cuda.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <utility>

#include "core/error.hpp"
#include "core/unwinding.hpp"
#include "runtime/check_cuda.hpp"
#include "runtime/handle.hpp"

namespace koios {

void check_cuda(cudaError_t code, const char* call, std::source_location where) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // a recoverable error must not be reported again by the next call
  throw LibraryError("CUDA", call, cat(cudaGetErrorString(code), " [", cudaGetErrorName(code), "]"),
                     where);
}

namespace cuda {
namespace {

void close_stream(cudaStream_t stream) { cudaStreamDestroy(stream); }
void close_event(cudaEvent_t event) { cudaEventDestroy(event); }
using CudaStream = Handle<cudaStream_t, &close_stream>;
using CudaEvent = Handle<cudaEvent_t, &close_event>;

cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

class CudaStreamImpl : public detail::StreamImpl {
 public:
  explicit CudaStreamImpl(int priority) {
    int least = 0;
    int greatest = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest),
               "cudaDeviceGetStreamPriorityRange");
    cudaStream_t stream = nullptr;
    check_cuda(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                            std::clamp(priority, greatest, least)),
               "cudaStreamCreateWithPriority");
    stream_ = CudaStream(stream);
  }

  void* native() const override { return stream_.get(); }
  void synchronize() override {
    check_cuda(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
  }
  void wait(const detail::EventImpl& event) override;
  void defer(std::function<void()> /*finish*/, std::span<const AnyRef> /*touched*/) override {
    KOIOS_REQUIRE(false, "defer is for host streams");
  }
  void complete_touching(AnyRef /*memory*/) override {
    KOIOS_REQUIRE(false, "complete_touching is for host streams");
  }

 private:
  CudaStream stream_;
};

class CudaEventImpl : public detail::EventImpl {
 public:
  explicit CudaEventImpl(bool timed) {
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming),
               "cudaEventCreateWithFlags");
    event_ = CudaEvent(event);
  }

  cudaEvent_t get() const { return event_.get(); }
  void record(const std::shared_ptr<detail::StreamImpl>& stream) override {
    check_cuda(cudaEventRecord(get(), static_cast<cudaStream_t>(stream->native())),
               "cudaEventRecord");
  }
  void synchronize() const override {
    check_cuda(cudaEventSynchronize(get()), "cudaEventSynchronize");
  }
  bool is_done() const override {
    const cudaError_t state = cudaEventQuery(get());
    if (state == cudaErrorNotReady) {
      cudaGetLastError();
      return false;
    }
    check_cuda(state, "cudaEventQuery");
    return true;
  }
  double seconds_since(const detail::EventImpl& earlier) const override {
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, static_cast<const CudaEventImpl&>(earlier).get(),
                                    get()),
               "cudaEventElapsedTime");
    return milliseconds * 1e-3;
  }

 private:
  CudaEvent event_;
};

void CudaStreamImpl::wait(const detail::EventImpl& event) {
  check_cuda(cudaStreamWaitEvent(stream_.get(), static_cast<const CudaEventImpl&>(event).get(), 0),
             "cudaStreamWaitEvent");
}

std::string version_text(int version) { return cat(version / 1000, ".", version % 1000 / 10); }

std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

int numa_node_of(std::string pci_bus) {
  std::transform(pci_bus.begin(), pci_bus.end(), pci_bus.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::ifstream file("/sys/bus/pci/devices/" + pci_bus + "/numa_node");
  int node = -1;
  return (file >> node) ? node : -1;
}

}  // namespace

bool is_built_in() { return true; }

int count_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

std::string gpu_problem() {
  int driver = 0;
  int runtime = 0;
  check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  if (driver == 0) return "this machine has no NVIDIA driver: run on a GPU node";
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (code == cudaErrorInsufficientDriver) {
    return cat("the NVIDIA driver is too old: it supports CUDA ", version_text(driver),
               ", this build needs ", version_text(runtime),
               ": update the driver, or build with an older toolkit");
  }
  if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0)) {
    return "no GPU is visible: check nvidia-smi, CUDA_VISIBLE_DEVICES and the job's "
           "--gpus-per-node";
  }
  check_cuda(code, "cudaGetDeviceCount");
  return "";
}

DeviceInfo open_device(int index) {
  if (const std::string problem = gpu_problem(); !problem.empty()) {
    throw UserError(cat("[job] backend = cuda: ", problem));
  }
  use_device(index);
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  std::array<char, 32> bus{};
  check_cuda(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), index),
             "cudaDeviceGetPCIBusId");
  const MemoryInfo memory = memory_info();
  return {.name = properties.name,
          .uuid = uuid_text(properties.uuid),
          .pci_bus = bus.data(),
          .numa_node = numa_node_of(bus.data()),
          .memory_bytes = memory.total_bytes,
          .free_bytes = memory.free_bytes};
}

void use_device(int index) { check_cuda(cudaSetDevice(index), "cudaSetDevice"); }

MemoryInfo memory_info() {
  std::size_t free = 0;
  std::size_t total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total)};
}

void* allocate_zeroed(std::int64_t bytes) {
  void* data = nullptr;
  check_cuda(cudaMalloc(&data, static_cast<std::size_t>(bytes)), "cudaMalloc");
  check_cuda(cudaMemset(data, 0, static_cast<std::size_t>(bytes)), "cudaMemset");
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  return data;
}

// Freeing waits for the device, where a collective may be spinning for a rank that is gone: under
// an exception, which ends the job, nothing is freed.
void deallocate(void* data) noexcept {
  if (!is_unwinding()) cudaFree(data);
}

void* allocate_pinned(std::int64_t bytes) {
  void* data = nullptr;
  check_cuda(cudaHostAlloc(&data, static_cast<std::size_t>(bytes), cudaHostAllocDefault),
             "cudaHostAlloc");
  return data;
}

void deallocate_pinned(void* data) noexcept {
  if (!is_unwinding()) cudaFreeHost(data);
}

void pin(void* data, std::int64_t bytes) {
  check_cuda(cudaHostRegister(data, static_cast<std::size_t>(bytes), cudaHostRegisterDefault),
             "cudaHostRegister");
}

void unpin(void* data) noexcept {
  if (!is_unwinding()) cudaHostUnregister(data);
}

void copy(const Stream& stream, void* dst, const void* src, std::int64_t bytes) {
  check_cuda(
      cudaMemcpyAsync(dst, src, static_cast<std::size_t>(bytes), cudaMemcpyDefault, native(stream)),
      "cudaMemcpyAsync");
}

void fill_zero(const Stream& stream, void* dst, std::int64_t bytes) {
  check_cuda(cudaMemsetAsync(dst, 0, static_cast<std::size_t>(bytes), native(stream)),
             "cudaMemsetAsync");
}

std::shared_ptr<detail::StreamImpl> make_stream(int priority) {
  return std::make_shared<CudaStreamImpl>(priority);
}

std::unique_ptr<detail::EventImpl> make_event(bool timed) {
  return std::make_unique<CudaEventImpl>(timed);
}

void push_range(const char* name) { nvtxRangePushA(name); }
void pop_range() { nvtxRangePop(); }

}  // namespace cuda
}  // namespace koios
