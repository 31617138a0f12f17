#include "runtime/region.hpp"

#include "runtime/detail/cuda.hpp"

namespace koios {

Trace::Trace(Backend backend) : backend_(backend), start_(backend, true) {}

void Trace::restart(Stream& stream) {
  used_ = 0;
  start_time_ = Clock::now();
  start_.record(stream);
}

Trace::Record& Trace::begin(Stream& stream, const char* name, Work work) {
  if (used_ == records_.size()) records_.emplace_back(backend_);
  Record& record = records_[used_++];
  record.name = name;
  record.stream = &stream;
  record.work = work;
  record.begin_time = Clock::now();
  record.begin.record(stream);
  return record;
}

void Trace::end(Record& record, Stream& stream) {
  record.end_time = Clock::now();
  record.end.record(stream);
}

double Trace::since_start(const Event& event, Clock::time_point time) const {
  if (backend_ == Backend::cuda) return event.seconds_since(start_);
  return std::chrono::duration<double>(time - start_time_).count();
}

std::vector<Trace::Span> Trace::spans() const {
  std::vector<Span> spans;
  for (std::size_t i = 0; i < used_; ++i) {
    const Record& r = records_[i];
    spans.push_back({r.stream->label(), r.name, since_start(r.begin, r.begin_time),
                     since_start(r.end, r.end_time), r.work});
  }
  return spans;
}

Region::Region(Trace* trace, Stream& stream, const char* name, Work work)
    : trace_(trace), stream_(stream) {
  cuda::push_range(name);
  if (trace_ != nullptr) record_ = &trace_->begin(stream_, name, work);
}

Region::~Region() {
  cuda::pop_range();
  if (record_ == nullptr) return;
  try {
    trace_->end(*record_, stream_);
  } catch (...) {  // a device that fails says so at its next call; a destructor must not
  }
}

}  // namespace koios
