// What one rank does, in a form that other processes can read while it is written, and after its
// writer was stopped or killed: plain numbers and texts of fixed length.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/enum_names.hpp"

namespace koios {

enum class CommOp : std::int32_t {
  all_gather,
  reduce_scatter,
  all_reduce,
  broadcast,
  send,
  recv,
  exchange
};
constexpr EnumTable<CommOp, 7> names_of(CommOp) {
  using enum CommOp;
  return {{{all_gather, "all_gather"},
           {reduce_scatter, "reduce_scatter"},
           {all_reduce, "all_reduce"},
           {broadcast, "broadcast"},
           {send, "send"},
           {recv, "recv"},
           {exchange, "exchange"}}};
}

/// Text that is cut to fit, and always ends.
template <std::size_t Size>
struct FixedText {
  std::array<char, Size> bytes{};

  void operator=(const std::string& text) {
    const std::size_t length = text.copy(bytes.data(), Size - 1);
    bytes[length] = '\0';
  }
  std::string str() const { return {bytes.data(), strnlen(bytes.data(), Size - 1)}; }
};

/// How far a rank is with the calls of one communicator. The same group on its members: equal name
/// and first_rank.
struct GroupState {
  FixedText<32> name;
  std::int32_t first_rank = 0;  // of the job, the group's rank 0
  std::int32_t size = 0;
  std::int64_t issued = 0;  // calls, from 1
  std::int64_t done = 0;    // all up to this one
  // The oldest that is not done, where issued > done.
  CommOp op = CommOp::all_gather;
  std::int64_t bytes = 0;
  double issued_s = 0;

  bool is_waiting() const { return issued > done; }
};

/// Times are seconds since 1970, so that ranks can be compared.
struct RankState {
  std::uint32_t version = 0;  // odd while it is written
  std::int32_t rank = -1;     // -1: nothing was ever written
  std::int32_t pid = 0;
  std::int32_t ending = 0;   // 1: by itself, done or with an error; -n: at once, by signal n
  std::int32_t is_told = 0;  // of the node's first rank: one of the node says why the job ends
  FixedText<64> host;
  FixedText<80> place;   // "step 12, forward layers.3, micro-batch 0"
  double entered_s = 0;  // when it came there
  double last_s = 0;     // last sign of life
  double alarm_s = 0;    // when its watchdog gave the alarm; 0: not yet
  /// Filled in by who looks: a letter of /proc/PID/stat, 'X' where the process is gone, '?'.
  char process = '?';
  std::int32_t groups = 0;
  /// The first so many that the rank has. A stage with two neighbours has all of them with
  /// zero_bubble_v: four links to each.
  std::array<GroupState, 16> group{};

  /// The signal that ended it at once, because it asked for a stop; 0: none.
  int stop_signal() const { return ending < 0 ? -ending : 0; }
};

}  // namespace koios
