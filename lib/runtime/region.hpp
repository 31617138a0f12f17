// Named parts of a step. A Region is an NVTX range for Nsight and, where its stream has a Trace, a
// span with a beginning and an end by the clock of what it measures: events on a GPU's stream, the
// calling thread's clock on the host. Without a Trace it costs a call.
//
//   const Region region(stream, "attention", {.flops = n});   // until the end of the scope
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

/// What a region computes and moves; 0 where nobody said.
struct Work {
  double flops = 0;
  double bytes = 0;
  std::array<std::int64_t, 3> extents = {0, 0, 0};  // of a product: rows, columns, summands
};

template <class T, int R>
std::int64_t bytes_of(const Ref<T, R>& tensor) {
  return tensor.size() * std::int64_t{sizeof(T)};
}
inline std::int64_t bytes_of(const AnyRef& tensor) { return tensor.bytes(); }
/// Of a kernel that memory bounds: each tensor is read or written once.
template <class... Tensors>
Work passes_over(const Tensors&... tensors) {
  return {.bytes = (... + static_cast<double>(bytes_of(tensors)))};
}

class Trace {
 public:
  struct Span {
    std::string lane;  // the stream's label
    std::string name;
    double begin_s = 0;  // since restart()
    double end_s = 0;
    Work work;
    double seconds() const { return end_s - begin_s; }
  };

  explicit Trace(Backend backend);

  /// Forgets what was recorded; times count from here on `stream`.
  void restart(Stream& stream);
  /// In the order of their beginnings. The streams must have passed all of them.
  std::vector<Span> spans() const;

 private:
  friend class Region;
  using Clock = std::chrono::steady_clock;
  struct Record {
    std::string name;
    const Stream* stream = nullptr;
    Work work;
    Event begin, end;                        // cuda
    Clock::time_point begin_time, end_time;  // host

    explicit Record(Backend backend) : begin(backend, true), end(backend, true) {}
  };
  Record& begin(Stream& stream, const char* name, Work work);
  void end(Record& record, Stream& stream);
  double since_start(const Event& event, Clock::time_point time) const;

  Backend backend_;
  std::deque<Record> records_;  // the first used_ of them; events are used again
  std::size_t used_ = 0;
  Event start_;
  Clock::time_point start_time_ = Clock::now();
};

class Region {
 public:
  /// In the stream's trace, where it has one.
  Region(Stream& stream, const char* name, Work work = {})
      : Region(stream.trace(), stream, name, work) {}
  /// In `trace`, which may be null.
  Region(Trace* trace, Stream& stream, const char* name, Work work = {});
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();

 private:
  Trace* trace_;
  Stream& stream_;
  Trace::Record* record_ = nullptr;
};

}  // namespace koios
