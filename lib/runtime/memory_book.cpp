#include "runtime/memory_book.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "core/error.hpp"
#include "core/free_memory.hpp"
#include "runtime/detail/cuda.hpp"

namespace koios {
namespace {

constexpr std::int64_t kWorthTelling = std::int64_t{16} << 20;
constexpr std::int64_t kNextToNone = std::int64_t{512} << 20;  // of a GPU: a library asks for less

MemoryBook*& current() {
  static MemoryBook* book = nullptr;
  return book;
}

struct Use {
  std::int64_t used_bytes = 0;
  std::int64_t free_bytes = 0;
};

Use look(Backend backend) {
  if (backend == Backend::host) return {resident_host_bytes(), free_process_memory().bytes};
  const cuda::MemoryInfo info = cuda::memory_info();
  return {info.total_bytes - info.free_bytes, info.free_bytes};
}

/// "1.25", never "-0.00".
std::string gib_of(std::int64_t bytes) {
  const double gib = std::round(100 * static_cast<double>(bytes) / (1 << 30)) / 100 + 0.0;
  return fmt::format("{:.2f}", gib);
}

bool is_of_memory(const std::string& error) {
  // Of the system, CUDA, cuBLAS and cuDNN.
  constexpr std::array<std::string_view, 4> kWords = {"memory", "Memory", "MEMORY", "ALLOC"};
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](std::string_view word) { return error.find(word) != std::string::npos; });
}

}  // namespace

MemoryBook::MemoryBook(Backend backend) : backend_(backend), used_bytes_(look(backend).used_bytes) {
  // CUDA tells of a GPU's memory only in a context, and of all processes together.
  entries_.emplace_back(backend == Backend::host ? "start" : "context and other processes",
                        used_bytes_);
  current() = this;
}

MemoryBook::~MemoryBook() { current() = nullptr; }

void MemoryBook::note(std::string what) {
  const std::int64_t used = look(backend_).used_bytes;
  entries_.emplace_back(std::move(what), used - used_bytes_);
  used_bytes_ = used;
}

void MemoryBook::note_known(std::string what, std::int64_t bytes) {
  entries_.emplace_back(std::move(what), bytes);
  used_bytes_ += bytes;
}

std::string MemoryBook::describe() const {
  const Use now = look(backend_);
  std::string text = backend_ == Backend::host ? "memory of this process: " : "GPU memory: ";
  for (const auto& [what, bytes] : entries_) text += cat(what, " ", gib_of(bytes), ", ");
  const std::int64_t since = now.used_bytes - used_bytes_;
  if (since >= kWorthTelling) text += cat("since then ", gib_of(since), ", ");
  return cat(text, "in all ", gib_of(now.used_bytes), " GiB; ", gib_of(now.free_bytes),
             " GiB are free");
}

std::string MemoryBook::about_memory(const std::string& error) noexcept {
  try {
    if (current() == nullptr) return "";
    const Backend backend = current()->backend_;
    const bool is_full =
        backend == Backend::cuda && look(backend).free_bytes < kNextToNone;  // NCCL does not say so
    return is_full || is_of_memory(error) ? current()->describe() : "";
  } catch (...) {
    return "";
  }
}

}  // namespace koios
