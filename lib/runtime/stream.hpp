// Stream and Event: the order of work on one backend.
//   cuda  a CUDA stream; everything enqueued runs in order, beside other streams.
//   host  kernels run at once, on the caller's thread. Only communication can be outstanding: a
//         communicator starts non-blocking MPI operations and defers their completion to the
//         stream, so a gather issued on the communication stream proceeds beside the computation.
//         Running a kernel on a host stream, synchronizing it, or waiting for an event of it
//         completes what is outstanding, in order.
// The same program text is therefore right on both.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "runtime/backend.hpp"

namespace koios {

class Event;

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

  /// Blocks the calling thread until everything enqueued so far is done.
  void synchronize();
  /// Work enqueued from now on starts after `event`. On the host it completes the event's stream
  /// up to where the event was recorded.
  void wait(const Event& event);

  /// Host streams only: `finish` completes an operation already started.
  void defer(std::function<void()> finish);

 private:
  friend class Event;
  struct Impl;
  Backend backend_;
  std::string label_;
  std::shared_ptr<Impl> impl_;
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
  /// Device time between two recorded, reached points.
  double seconds_since(const Event& earlier) const;

 private:
  friend class Stream;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace koios
