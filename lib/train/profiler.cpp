#include "train/profiler.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/integers.hpp"
#include "core/log.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

constexpr std::array kLanes = {"compute",  "gather", "reduce",    "replicate",
                               "exchange", "data",   "checkpoint"};

// Numbers of threads are unique on a machine, and 0 is the idle one: Perfetto relies on both. The
// thread with the number of its process is the main one, which is shown first.
int process_number(int rank) { return 1 + rank * narrow<int>(std::ssize(kLanes)); }
int thread_number(int rank, std::string_view lane) {
  const auto found = std::find(kLanes.begin(), kLanes.end(), lane);
  KOIOS_REQUIRE(found != kLanes.end(), "no lane ", lane);
  return process_number(rank) + narrow<int>(found - kLanes.begin());
}

nlohmann::json name_event(const char* what, int rank, std::string_view lane,
                          const std::string& name) {
  return {{"ph", "M"},
          {"name", what},
          {"pid", process_number(rank)},
          {"tid", thread_number(rank, lane)},
          {"args", {{"name", name}}}};
}

/// A complete event; times in microseconds.
nlohmann::json span_event(const Trace::Span& span, int rank) {
  constexpr double kMicroseconds = 1e6;
  nlohmann::json event = {{"ph", "X"},
                          {"name", span.name},
                          {"cat", span.lane},
                          {"pid", process_number(rank)},
                          {"tid", thread_number(rank, span.lane)},
                          {"ts", kMicroseconds * span.begin_s},
                          {"dur", kMicroseconds * span.seconds()}};
  if (span.work.flops > 0) event["args"]["flops"] = span.work.flops;
  if (span.work.bytes > 0) event["args"]["bytes"] = span.work.bytes;
  if (span.work.extents[0] > 0) event["args"]["extents"] = span.work.extents;
  return event;
}

}  // namespace

Profiler::Profiler(const ProfilingConfig& config, const std::filesystem::path& run_folder, int rank,
                   TrainingStreams& streams)
    : config_(config),
      folder_(run_folder / config.save_traces_folder),
      rank_(rank),
      streams_(streams),
      data_(Backend::host, "data"),
      checkpoint_(Backend::host, "checkpoint"),
      device_trace_(streams.compute.backend()),
      host_trace_(Backend::host) {}

void Profiler::before_step(std::int64_t step) {
  if (!config_.run_profiler) return;
  const std::int64_t first_active = config_.profile_freq - config_.active_steps + 1;
  const std::int64_t first_recorded = first_active - config_.warmup_steps;
  if (place(step) == first_recorded || place(step) == first_active) begin();
}

void Profiler::after_step(std::int64_t step) {
  if (!is_recording_ || place(step) != config_.profile_freq) return;
  end();
  const std::filesystem::path path =
      folder_ / cat("iteration_", step) / cat("rank", rank_, "_trace.json");
  write(path, step);
  log::info("step ", step, ": traces in ", path.parent_path().string());
}

void Profiler::begin() {
  for (Stream* stream : streams_.all()) {
    stream->synchronize();
    stream->set_trace(&device_trace_);
  }
  data_.set_trace(&host_trace_);
  checkpoint_.set_trace(&host_trace_);
  device_trace_.restart(streams_.compute);
  host_trace_.restart(data_);
  is_recording_ = true;
}

void Profiler::end() {
  for (Stream* stream : streams_.all()) {
    stream->synchronize();
    stream->set_trace(nullptr);
  }
  data_.set_trace(nullptr);
  checkpoint_.set_trace(nullptr);
  is_recording_ = false;
}

void Profiler::write(const std::filesystem::path& path, std::int64_t step) const {
  nlohmann::json events = nlohmann::json::array();
  events.push_back(name_event("process_name", rank_, kLanes.front(), cat("rank ", rank_)));
  for (const char* lane : kLanes) events.push_back(name_event("thread_name", rank_, lane, lane));
  for (const Trace* trace : {&device_trace_, &host_trace_}) {
    for (const Trace::Span& span : trace->spans()) events.push_back(span_event(span, rank_));
  }
  const nlohmann::json trace = {{"traceEvents", events},
                                {"displayTimeUnit", "ms"},
                                {"otherData", {{"step", step}, {"rank", rank_}}}};
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (error) {
    throw UserError(cat("[profiling] save_traces_folder: ", path.parent_path().string(),
                        " cannot be made: ", error.message()));
  }
  files::replace(path, trace.dump());
}

}  // namespace koios
