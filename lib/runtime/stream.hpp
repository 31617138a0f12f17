// Stream and Event: the order of work on one backend.
//   cuda  a CUDA stream; everything enqueued runs in order, beside other streams.
//   host  kernels run at once, on the caller's thread. Only communication can be outstanding: a
//         communicator starts non-blocking MPI operations and defers their completion to the
//         stream, so a gather issued on the communication stream proceeds beside the computation.
//         Running a kernel on a host stream, synchronizing it, or waiting for an event of it
//         completes what is outstanding, in order.
// The same program text is therefore right on both.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/ref.hpp"
#include "runtime/backend.hpp"

namespace koios {

class Event;
class Trace;
namespace detail {
class StreamImpl;
class EventImpl;
}  // namespace detail

class Stream {
 public:
  /// label: for traces. priority: -1 runs before 0 where the device can choose.
  Stream(Backend backend, std::string label, int priority = 0);
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  Backend backend() const { return backend_; }
  const std::string& label() const { return label_; }
  /// cudaStream_t, or nullptr on the host.
  void* native() const;

  /// Where regions of this stream are recorded (runtime/region.hpp); null: nowhere.
  Trace* trace() const { return trace_; }
  void set_trace(Trace* trace) { trace_ = trace; }

  /// Blocks the calling thread until everything enqueued so far is done.
  void synchronize();
  /// Work enqueued from now on starts after `event`. On the host it completes the event's stream
  /// up to where the event was recorded.
  void wait(const Event& event);

  /// Host streams only: `finish` completes an operation already started, which reads or writes
  /// the memory in `touched`.
  void defer(std::function<void()> finish, std::span<const AnyRef> touched);
  /// Host streams only: completes what is outstanding through the last operation that touches
  /// `memory`. An operation that starts at once calls it for its buffers first, which keeps the
  /// order of a stream without waiting for unrelated work.
  void complete_touching(AnyRef memory);

 private:
  friend class Event;
  Backend backend_;
  std::string label_;
  Trace* trace_ = nullptr;
  std::shared_ptr<detail::StreamImpl> impl_;
};

/// A point in a stream. Before its first record it is "done".
class Event {
 public:
  /// timed: whether seconds_since can be asked (costs a little on CUDA).
  explicit Event(Backend backend, bool timed = false);
  Event(Event&&) noexcept;
  Event& operator=(Event&&) noexcept;
  ~Event();

  void record(Stream& stream);
  /// Blocks the calling thread until the point is reached.
  void synchronize() const;
  /// Whether the point is reached, without waiting; on the host it completes nothing.
  bool is_done() const;
  /// Device time between two recorded, reached points.
  double seconds_since(const Event& earlier) const;

 private:
  friend class Stream;
  std::unique_ptr<detail::EventImpl> impl_;
};

}  // namespace koios
