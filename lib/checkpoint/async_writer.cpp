#include "checkpoint/async_writer.hpp"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <utility>

#include "core/error.hpp"
#include "core/unwinding.hpp"

namespace koios {

struct AsyncWriter::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::function<void()> work;  // empty: none
  std::exception_ptr error;
  bool stop = false;

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stop || work != nullptr; });
      if (work == nullptr) return;
      lock.unlock();
      std::exception_ptr thrown;
      try {
        work();
      } catch (...) {
        thrown = std::current_exception();
      }
      lock.lock();
      work = nullptr;
      error = thrown;
      changed.notify_all();
    }
  }
};

AsyncWriter::AsyncWriter()
    : state_(std::make_shared<State>()), thread_([state = state_] { state->run(); }) {}

AsyncWriter::~AsyncWriter() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->changed.notify_all();
  if (is_unwinding()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void AsyncWriter::start(std::function<void()> work) {
  {
    const std::lock_guard lock(state_->mutex);
    KOIOS_REQUIRE(state_->work == nullptr && !state_->error, "the work before is not settled");
    state_->work = std::move(work);
  }
  state_->changed.notify_all();
}

bool AsyncWriter::poll() {
  const std::lock_guard lock(state_->mutex);
  if (state_->work != nullptr) return false;
  if (state_->error) std::rethrow_exception(std::exchange(state_->error, nullptr));
  return true;
}

void AsyncWriter::wait() {
  {
    std::unique_lock lock(state_->mutex);
    state_->changed.wait(lock, [&] { return state_->work == nullptr; });
  }
  poll();
}

}  // namespace koios
