#include "train/profiler.hpp"

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "core/integers.hpp"
#include "core/log.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

// Numbers of threads are unique on a machine, and 0 is the idle one: Perfetto relies on both. The
// thread with the number of its process is the main one, which is shown first.
constexpr int kMostLanes = 64;
int process_number(int rank) { return 1 + rank * kMostLanes; }

nlohmann::json name_event(const char* what, int rank, int lane, const std::string& name) {
  const int process = process_number(rank);
  return {{"ph", "M"},
          {"name", what},
          {"pid", process},
          {"tid", process + lane},
          {"args", {{"name", name}}}};
}

/// A complete event; times in microseconds.
nlohmann::json span_event(const Trace::Span& span, int rank, int lane) {
  constexpr double kMicroseconds = 1e6;
  const int process = process_number(rank);
  nlohmann::json event = {{"ph", "X"},
                          {"name", span.name},
                          {"cat", span.lane},
                          {"pid", process},
                          {"tid", process + lane},
                          {"ts", kMicroseconds * span.begin_s},
                          {"dur", kMicroseconds * span.seconds()}};
  if (span.work.flops > 0) event["args"]["flops"] = span.work.flops;
  if (span.work.bytes > 0) event["args"]["bytes"] = span.work.bytes;
  if (span.work.extents[0] > 0) event["args"]["extents"] = span.work.extents;
  return event;
}

void make_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    throw UserError(cat("[profiling] save_traces_folder: ", path.string(),
                        " cannot be made: ", error.message()));
  }
}

}  // namespace

Profiler::Profiler(const ProfilingConfig& config, const std::filesystem::path& run_folder,
                   const RankGroup& ranks, std::vector<Stream*> streams)
    : config_(config),
      folder_(run_folder / config.save_traces_folder),
      ranks_(ranks),
      rank_(ranks.rank()),
      streams_(std::move(streams)),
      data_(Backend::host, "data"),
      checkpoint_(Backend::host, "checkpoint"),
      device_trace_(streams_.front()->backend()),
      host_trace_(Backend::host) {
  if (config_.run_profiler) ranks.on_root([&] { make_folder(folder_); });
}

void Profiler::before_step(std::int64_t step) {
  if (!config_.run_profiler) return;
  const std::int64_t first_active = config_.profile_freq - config_.active_steps + 1;
  const std::int64_t first_recorded = first_active - config_.warmup_steps;
  if (place(step) == first_recorded || place(step) == first_active) begin();
}

void Profiler::after_step(std::int64_t step) {
  if (!is_recording_ || place(step) != config_.profile_freq) return;
  end();
  const std::filesystem::path folder = folder_ / cat("iteration_", step);
  try {
    ranks_.together([&] { write(folder, step); });
    log::info("step ", step, ": traces in ", folder.string());
  } catch (const UserError& error) {
    config_.run_profiler = false;
    if (ranks_.is_root()) {
      log::warning("step ", step, ": ", error.what(),
                   "; no further steps are traced, training goes on");
    }
  }
}

void Profiler::begin() {
  for (Stream* stream : streams_) {
    stream->synchronize();
    stream->set_trace(&device_trace_);
  }
  data_.set_trace(&host_trace_);
  checkpoint_.set_trace(&host_trace_);
  device_trace_.restart(*streams_.front());
  host_trace_.restart(data_);
  is_recording_ = true;
}

void Profiler::end() {
  for (Stream* stream : streams_) {
    stream->synchronize();
    stream->set_trace(nullptr);
  }
  data_.set_trace(nullptr);
  checkpoint_.set_trace(nullptr);
  is_recording_ = false;
}

void Profiler::write(const std::filesystem::path& folder, std::int64_t step) const {
  nlohmann::json events = nlohmann::json::array();
  std::map<std::string, int> lanes;
  events.push_back(name_event("process_name", rank_, 0, cat("rank ", rank_)));
  const auto add_lane = [&](const Stream& stream) {
    const int lane = narrow<int>(std::ssize(lanes));
    KOIOS_REQUIRE(lane < kMostLanes, lane, " lanes");
    lanes.emplace(stream.label(), lane);
    events.push_back(name_event("thread_name", rank_, lane, stream.label()));
  };
  for (const Stream* stream : streams_) add_lane(*stream);
  add_lane(data_);
  add_lane(checkpoint_);
  for (const Trace* trace : {&device_trace_, &host_trace_}) {
    for (const Trace::Span& span : trace->spans()) {
      events.push_back(span_event(span, rank_, lanes.at(span.lane)));
    }
  }
  const nlohmann::json trace = {{"traceEvents", events},
                                {"displayTimeUnit", "ms"},
                                {"otherData", {{"step", step}, {"rank", rank_}}}};
  make_folder(folder);
  files::replace(folder / cat("rank", rank_, "_trace.json"), trace.dump());
}

}  // namespace koios
