#include "comm/flight_recorder.hpp"

#include <algorithm>
#include <chrono>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

constexpr int kLeastEntries = 64;

double now_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

const char* to_string(CommOp op) {
  switch (op) {
    case CommOp::all_gather:
      return "all_gather";
    case CommOp::reduce_scatter:
      return "reduce_scatter";
    case CommOp::all_reduce:
      return "all_reduce";
    case CommOp::broadcast:
      return "broadcast";
    case CommOp::send:
      return "send";
    case CommOp::recv:
      return "recv";
  }
  return "unknown";
}

FlightRecorder::FlightRecorder(int rank, int capacity)
    : rank_(rank),
      dumps_(capacity > 0),
      ring_(static_cast<std::size_t>(std::max(capacity, kLeastEntries))) {
  where_.entered_s = now_s();
}

void FlightRecorder::enter(const char* part, std::int64_t number, const char* half) {
  const std::lock_guard lock(mutex_);
  where_ = {part, number, half, now_s()};
}

std::string FlightRecorder::where() const {
  const std::lock_guard lock(mutex_);
  std::ostringstream text;
  text << where_.part;
  if (where_.number >= 0) text << ' ' << where_.number;
  if (*where_.half != '\0') text << ' ' << where_.half;
  text << ", for " << std::fixed << std::setprecision(1) << now_s() - where_.entered_s << " s";
  return text.str();
}

int FlightRecorder::add_communicator(const std::string& name, int rank, int size) {
  const std::lock_guard lock(mutex_);
  groups_.push_back({name, rank, size});
  return static_cast<int>(groups_.size()) - 1;
}

FlightRecorder::Entry& FlightRecorder::slot(std::int64_t number) {
  return ring_[static_cast<std::size_t>(number) % ring_.size()];
}

std::int64_t FlightRecorder::issued(int communicator, CommOp op, std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  Group& group = groups_[static_cast<std::size_t>(communicator)];
  ++last_;
  slot(last_) = {last_, ++group.calls, communicator, op, bytes, now_s(), 0};
  return last_;
}

void FlightRecorder::completed(std::int64_t number) {
  const std::lock_guard lock(mutex_);
  Entry& entry = slot(number);
  if (entry.number == number) entry.completed_s = now_s();  // else it was overwritten
}

std::vector<FlightRecorder::Entry> FlightRecorder::in_order() const {
  std::vector<Entry> entries;
  std::copy_if(ring_.begin(), ring_.end(), std::back_inserter(entries),
               [](const Entry& e) { return e.number > 0; });
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.number < b.number; });
  return entries;
}

std::string FlightRecorder::oldest_incomplete() const {
  const std::lock_guard lock(mutex_);
  for (const Entry& e : in_order()) {
    if (e.completed_s > 0) continue;
    const Group& group = groups_[static_cast<std::size_t>(e.communicator)];
    std::ostringstream text;
    text << "call " << e.call << " of " << group.name << " (rank " << group.rank << " of "
         << group.size << "): " << to_string(e.op) << " of " << e.bytes << " bytes, issued "
         << std::fixed << std::setprecision(1) << now_s() - e.issued_s << " s ago";
    return text.str();
  }
  return "";
}

std::string FlightRecorder::dump(const std::filesystem::path& dump_folder) const {
  if (!dumps_) return "";
  nlohmann::ordered_json root;
  {
    const std::lock_guard lock(mutex_);
    root["rank"] = rank_;
    root["dumped_s"] = now_s();
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
