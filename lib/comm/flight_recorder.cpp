#include "comm/flight_recorder.hpp"

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/stopwatch.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

constexpr int kLeastEntries = 64;

}  // namespace

FlightRecorder::FlightRecorder(int rank, int capacity)
    : rank_(rank),
      dumps_(capacity > 0),
      ring_(static_cast<std::size_t>(std::max(capacity, kLeastEntries))) {
  own_.rank = rank;
  publish_place();
}

template <class Change>
void FlightRecorder::publish(Change change) {
  const std::atomic_ref version(state_->version);
  ++version;
  change(*state_);
  state_->last_s = unix_seconds();
  ++version;
}

void FlightRecorder::publish_place() {
  publish([this](RankState& state) {
    state.place = step_ > 0 ? cat("step ", step_, ", ", doing_) : doing_;
    state.entered_s = unix_seconds();
  });
}

void FlightRecorder::publish_group(std::size_t index) {
  if (index >= state_->group.size()) return;
  const Group& group = groups_[index];
  publish([&](RankState& state) {
    GroupState& shown = state.group[index];
    shown.issued = group.calls;
    shown.done = group.calls;
    if (group.outstanding.empty()) return;
    const Entry& oldest = slot(group.outstanding.front());
    if (oldest.number != group.outstanding.front()) return;  // it was overwritten
    shown.done = oldest.call - 1;
    shown.op = oldest.op;
    shown.bytes = oldest.bytes;
    shown.issued_s = oldest.issued_s;
  });
}

void FlightRecorder::publish_in(RankState& state) {
  const std::lock_guard lock(mutex_);
  state_ = &state;
  publish_place();
}

void FlightRecorder::withdraw() {
  const std::lock_guard lock(mutex_);
  state_ = &own_;
}

void FlightRecorder::enter(const std::string& what) {
  const std::lock_guard lock(mutex_);
  doing_ = what;
  publish_place();
}

void FlightRecorder::at_step(std::int64_t step) {
  const std::lock_guard lock(mutex_);
  step_ = step;
}

void FlightRecorder::raise_alarm() {
  const std::lock_guard lock(mutex_);
  const std::atomic_ref version(state_->version);
  ++version;
  state_->alarm_s = unix_seconds();  // no sign of life
  ++version;
}

int FlightRecorder::add_communicator(const std::string& name, int rank, int size, int first_rank) {
  const std::lock_guard lock(mutex_);
  groups_.push_back({name, rank, size});
  const std::size_t index = groups_.size() - 1;
  publish([&](RankState& state) {
    if (index >= state.group.size()) return;
    GroupState& group = state.group[index];
    group = {};
    group.name = name;
    group.first_rank = first_rank;
    group.size = size;
    state.groups = static_cast<std::int32_t>(index + 1);
  });
  return static_cast<int>(index);
}

FlightRecorder::Entry& FlightRecorder::slot(std::int64_t number) {
  return ring_[static_cast<std::size_t>(number) % ring_.size()];
}

std::int64_t FlightRecorder::issued(int communicator, CommOp op, std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  Group& group = groups_[static_cast<std::size_t>(communicator)];
  ++last_;
  slot(last_) = {last_, ++group.calls, communicator, op, bytes, unix_seconds(), 0};
  group.outstanding.push_back(last_);
  publish_group(static_cast<std::size_t>(communicator));
  return last_;
}

void FlightRecorder::completed(std::int64_t number) {
  const std::lock_guard lock(mutex_);
  Entry& entry = slot(number);
  if (entry.number != number) return;  // it was overwritten
  entry.completed_s = unix_seconds();
  auto& outstanding = groups_[static_cast<std::size_t>(entry.communicator)].outstanding;
  if (!outstanding.empty() && outstanding.front() == number) {
    outstanding.pop_front();
  } else {
    std::erase(outstanding, number);
  }
  publish_group(static_cast<std::size_t>(entry.communicator));
}

std::vector<FlightRecorder::Entry> FlightRecorder::in_order() const {
  std::vector<Entry> entries;
  std::copy_if(ring_.begin(), ring_.end(), std::back_inserter(entries),
               [](const Entry& e) { return e.number > 0; });
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.number < b.number; });
  return entries;
}

std::string FlightRecorder::dump(const std::filesystem::path& dump_folder) const {
  if (!dumps_) return "";
  nlohmann::ordered_json root;
  {
    const std::lock_guard lock(mutex_);
    root["rank"] = rank_;
    root["dumped_s"] = unix_seconds();
    root["communicators"] = nlohmann::ordered_json::array();
    for (const Group& g : groups_) {
      root["communicators"].push_back(
          {{"name", g.name}, {"rank", g.rank}, {"size", g.size}, {"calls", g.calls}});
    }
    root["calls"] = nlohmann::ordered_json::array();
    for (const Entry& e : in_order()) {
      nlohmann::ordered_json call = {
          {"number", e.number},
          {"communicator", groups_[static_cast<std::size_t>(e.communicator)].name},
          {"call", e.call},
          {"op", to_string(e.op)},
          {"bytes", e.bytes},
          {"issued_s", e.issued_s}};
      call["completed_s"] = nullptr;
      if (e.completed_s > 0) call["completed_s"] = e.completed_s;
      root["calls"].push_back(std::move(call));
    }
  }
  const auto folder = dump_folder / "comm_trace";
  std::filesystem::create_directories(folder);
  const auto path = folder / cat("rank_", rank_);
  files::replace(path, root.dump(1) + "\n");
  return path.string();
}

}  // namespace koios
