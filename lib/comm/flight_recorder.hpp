// What this rank does, and the last calls of its communicators: what the watchdog prints and dumps
// when a run stands still. Compare the dumps of the ranks: calls of one communicator with equal
// numbers belong together, and the rank that lacks one is the one that went astray.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

namespace koios {

enum class CommOp { all_gather, reduce_scatter, all_reduce, broadcast, send, recv };
const char* to_string(CommOp op);

class FlightRecorder {
 public:
  /// capacity 0: no dumps; a few calls are still kept for the watchdog's message.
  FlightRecorder(int rank, int capacity);

  /// The number by which the communicator names itself in issued().
  int add_communicator(const std::string& name, int rank, int size);
  /// Notes a call that was started, and returns its number.
  std::int64_t issued(int communicator, CommOp op, std::int64_t bytes);
  void completed(std::int64_t number);

  /// What this rank does from now on, for the watchdog's message: "block 17 forward", "reading
  /// data". The texts are literals: this is called often, and by the thread that trains alone.
  void enter(const char* part, std::int64_t number = -1, const char* half = "");
  /// "block 17 forward, for 3.2 s".
  std::string where() const;

  /// "call 12 of shard_reduce (rank 0 of 2): reduce_scatter of 3145728 bytes, issued 8.1 s ago",
  /// or "" if none is outstanding.
  std::string oldest_incomplete() const;
  /// Writes dump_folder/comm_trace/rank_<r> (JSON) and returns its path; "" where capacity is 0.
  std::string dump(const std::filesystem::path& dump_folder) const;

 private:
  struct Group {
    std::string name;
    int rank;
    int size;
    std::int64_t calls = 0;
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
  struct Where {
    const char* part = "start";
    std::int64_t number = -1;  // none
    const char* half = "";
    double entered_s = 0;
  };
  Entry& slot(std::int64_t number);
  std::vector<Entry> in_order() const;

  int rank_;
  bool dumps_;
  mutable std::mutex mutex_;  // the watchdog reads from its own thread
  std::vector<Group> groups_;
  std::vector<Entry> ring_;
  std::int64_t last_ = 0;
  Where where_;
};

}  // namespace koios
