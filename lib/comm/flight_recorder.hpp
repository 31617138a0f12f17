// What this rank does, and the last calls of its communicators: what the watchdog prints and dumps
// when a run stands still, and what other ranks may see of it. Compare the dumps of the ranks:
// calls of one communicator with equal numbers belong together, and the rank that lacks one is the
// one that went astray.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "comm/rank_state.hpp"

namespace koios {

class FlightRecorder {
 public:
  /// capacity 0: no dumps; a few calls are still kept for the watchdog's message.
  FlightRecorder(int rank, int capacity);

  /// From now on what this rank does is written to `state`, until withdraw().
  void publish_in(RankState& state);
  void withdraw();

  /// The number by which the communicator names itself in issued(). first_rank: of the job, the
  /// rank that is the group's first.
  int add_communicator(const std::string& name, int rank, int size, int first_rank);
  /// Notes a call that was started, and returns its number.
  std::int64_t issued(int communicator, CommOp op, std::int64_t bytes);
  void completed(std::int64_t number);

  /// What this rank does from now on: "forward layers.3", "reading data". Cheap enough for each
  /// part of a step.
  void enter(const std::string& what);
  /// The step that it works on, which precedes what it does; 0: none.
  void at_step(std::int64_t step);
  /// Its watchdog gives the alarm.
  void raise_alarm();

  /// Writes dump_folder/comm_trace/rank_<r> (JSON) and returns its path; "" where capacity is 0.
  std::string dump(const std::filesystem::path& dump_folder) const;

 private:
  struct Group {
    std::string name;
    int rank;
    int size;
    std::int64_t calls = 0;
    std::deque<std::int64_t> outstanding{};  // numbers of entries, as issued
  };
  struct Entry {
    std::int64_t number = 0;  // over all communicators, from 1
    std::int64_t call = 0;    // within its communicator, from 1
    int communicator = 0;
    CommOp op = CommOp::all_gather;
    std::int64_t bytes = 0;
    double issued_s = 0;     // seconds since 1970, so that ranks can be compared
    double completed_s = 0;  // 0: not yet
  };
  /// Changes the published state, which others may read meanwhile.
  template <class Change>
  void publish(Change change);
  void publish_place();
  void publish_group(std::size_t index);
  Entry& slot(std::int64_t number);
  std::vector<Entry> in_order() const;

  int rank_;
  bool dumps_;
  mutable std::mutex mutex_;  // the watchdog reads from its own thread
  std::vector<Group> groups_;
  std::vector<Entry> ring_;
  std::int64_t last_ = 0;
  std::int64_t step_ = 0;
  std::string doing_ = "start";
  RankState own_;
  RankState* state_ = &own_;
};

}  // namespace koios
