#include "runtime/stream.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "core/unwinding.hpp"
#include "runtime/detail/cuda.hpp"
#include "runtime/detail/stream_impl.hpp"

namespace koios {
namespace {

bool overlap(const AnyRef& a, const AnyRef& b) {
  const auto* a_begin = static_cast<const std::byte*>(a.data);
  const auto* b_begin = static_cast<const std::byte*>(b.data);
  return a_begin < b_begin + b.bytes() && b_begin < a_begin + a.bytes();
}

/// A queue of operations that were started and still have to be completed, numbered from 1.
class HostStream : public detail::StreamImpl {
 public:
  void* native() const override { return nullptr; }
  void synchronize() override { complete_through(last_); }
  void wait(const detail::EventImpl& event) override { event.synchronize(); }

  void defer(std::function<void()> finish, std::span<const AnyRef> touched) override {
    outstanding_.push_back({++last_, std::move(finish), {touched.begin(), touched.end()}});
  }

  void complete_touching(AnyRef memory) override {
    std::int64_t through = 0;
    for (const Operation& operation : outstanding_) {
      for (const AnyRef& touched : operation.touched) {
        if (overlap(touched, memory)) through = operation.number;
      }
    }
    complete_through(through);
  }

  void complete_through(std::int64_t number) {
    while (!outstanding_.empty() && outstanding_.front().number <= number) {
      // Taken off first: a completion that throws must not run twice.
      const Operation operation = std::move(outstanding_.front());
      outstanding_.pop_front();
      operation.finish();
    }
  }

  std::int64_t last() const { return last_; }
  bool is_complete_through(std::int64_t number) const {
    return outstanding_.empty() || outstanding_.front().number > number;
  }

 private:
  struct Operation {
    std::int64_t number;
    std::function<void()> finish;
    std::vector<AnyRef> touched;
  };

  std::deque<Operation> outstanding_;
  std::int64_t last_ = 0;
};

class HostEvent : public detail::EventImpl {
 public:
  explicit HostEvent(bool timed) : timed_(timed) {}

  void record(const std::shared_ptr<detail::StreamImpl>& stream) override {
    stream_ = std::static_pointer_cast<HostStream>(stream);
    number_ = stream_->last();
    if (!timed_) return;
    if (stream_->is_complete_through(number_)) {
      *reached_ = Clock::now();
    } else {
      stream_->defer([reached = reached_] { *reached = Clock::now(); }, {});
      number_ = stream_->last();
    }
  }

  void synchronize() const override {
    if (stream_) stream_->complete_through(number_);
  }

  bool is_done() const override { return !stream_ || stream_->is_complete_through(number_); }

  double seconds_since(const detail::EventImpl& earlier) const override {
    const auto& other = static_cast<const HostEvent&>(earlier);
    KOIOS_REQUIRE(
        timed_ && other.timed_ && stream_ && other.stream_ && is_done() && other.is_done(),
        "both events must be timed and reached");
    return std::chrono::duration<double>(*reached_ - *other.reached_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;

  bool timed_;
  std::shared_ptr<HostStream> stream_;
  std::int64_t number_ = 0;
  std::shared_ptr<Clock::time_point> reached_ = std::make_shared<Clock::time_point>();
};

std::shared_ptr<detail::StreamImpl> make_stream(Backend backend, int priority) {
  if (backend == Backend::host) return std::make_shared<HostStream>();
  return cuda::make_stream(priority);
}

std::unique_ptr<detail::EventImpl> make_event(Backend backend, bool timed) {
  if (backend == Backend::host) return std::make_unique<HostEvent>(timed);
  return cuda::make_event(timed);
}

}  // namespace

Stream::Stream(Backend backend, std::string label, int priority)
    : backend_(backend), label_(std::move(label)), impl_(make_stream(backend, priority)) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;

Stream::~Stream() {
  // With an exception in flight the other ranks may be gone, and waiting for them would hang.
  if (!impl_ || is_unwinding()) return;
  try {
    synchronize();
  } catch (...) {  // a destructor must not throw; whoever needed the result has synchronized
  }
}

void* Stream::native() const { return impl_->native(); }
void Stream::synchronize() { impl_->synchronize(); }
void Stream::wait(const Event& event) { impl_->wait(*event.impl_); }
void Stream::defer(std::function<void()> finish, std::span<const AnyRef> touched) {
  impl_->defer(std::move(finish), touched);
}
void Stream::complete_touching(AnyRef memory) { impl_->complete_touching(memory); }

Event::Event(Backend backend, bool timed) : impl_(make_event(backend, timed)) {}
Event::Event(Event&&) noexcept = default;
Event& Event::operator=(Event&&) noexcept = default;
Event::~Event() = default;

void Event::record(Stream& stream) { impl_->record(stream.impl_); }
void Event::synchronize() const { impl_->synchronize(); }
bool Event::is_done() const { return impl_->is_done(); }
double Event::seconds_since(const Event& earlier) const {
  return impl_->seconds_since(*earlier.impl_);
}

}  // namespace koios
