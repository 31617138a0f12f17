// A thread that does one piece of work at a time beside the training. What it throws, poll() and
// wait() throw in the thread that asks.
#pragma once

#include <functional>
#include <memory>
#include <thread>

namespace koios {

class AsyncWriter {
 public:
  AsyncWriter();
  AsyncWriter(const AsyncWriter&) = delete;
  AsyncWriter& operator=(const AsyncWriter&) = delete;
  /// Waits for the work; not under an exception, when other ranks may never do their part of it:
  /// then the thread is left alone, and what the work refers to must be owned by it.
  ~AsyncWriter();

  /// The work before must be done and its failure taken by poll() or wait().
  void start(std::function<void()> work);
  /// Whether there is no work. Throws what the last work threw, once.
  bool poll();
  void wait();

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace koios
