// What a backend provides behind Stream and Event. Private to runtime/.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "core/ref.hpp"

namespace koios::detail {

class EventImpl;

class StreamImpl {
 public:
  StreamImpl() = default;
  StreamImpl(const StreamImpl&) = delete;
  StreamImpl& operator=(const StreamImpl&) = delete;
  virtual ~StreamImpl() = default;

  virtual void* native() const = 0;
  virtual void synchronize() = 0;
  virtual void wait(const EventImpl& event) = 0;
  virtual void defer(std::function<void()> finish, std::span<const AnyRef> touched) = 0;
  virtual void complete_touching(AnyRef memory) = 0;
};

class EventImpl {
 public:
  EventImpl() = default;
  EventImpl(const EventImpl&) = delete;
  EventImpl& operator=(const EventImpl&) = delete;
  virtual ~EventImpl() = default;

  virtual void record(const std::shared_ptr<StreamImpl>& stream) = 0;
  virtual void synchronize() const = 0;
  virtual bool is_done() const = 0;
  virtual double seconds_since(const EventImpl& earlier) const = 0;
};

}  // namespace koios::detail
