#include "comm/verdict.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "core/error.hpp"
#include "runtime/signals.hpp"

namespace koios {
namespace {

std::string seconds(double s) { return fmt::format("{:.1f} s", std::max(0.0, s)); }

std::string name_of(const RankState& state) {
  return cat("rank ", state.rank, " on ", state.host.str());
}

/// "all_gather 812 of shard_gather"
std::string call_of(const GroupState& group) {
  return cat(to_string(group.op), " ", group.done + 1, " of ", group.name.str());
}

bool is_same(const GroupState& a, const GroupState& b) {
  return a.first_rank == b.first_rank && a.name.str() == b.name.str();
}

const GroupState* find(const RankState& state, const GroupState& group) {
  for (int g = 0; g < state.groups; ++g) {
    const GroupState& mine = state.group[static_cast<std::size_t>(g)];
    if (is_same(mine, group)) return &mine;
  }
  return nullptr;
}

/// The calls that the rank waits in, the oldest first.
std::vector<const GroupState*> waited_calls(const RankState& state) {
  std::vector<const GroupState*> calls;
  for (int g = 0; g < state.groups; ++g) {
    const GroupState& group = state.group[static_cast<std::size_t>(g)];
    if (group.is_waiting()) calls.push_back(&group);
  }
  std::stable_sort(calls.begin(), calls.end(), [](const GroupState* a, const GroupState* b) {
    return a->issued_s < b->issued_s;
  });
  return calls;
}

const GroupState* waits_in(const RankState& state) {
  const std::vector<const GroupState*> calls = waited_calls(state);
  return calls.empty() ? nullptr : calls.front();
}

std::vector<const RankState*> missing_from(const GroupState& call,
                                           std::span<const RankState> states) {
  std::vector<const RankState*> missing;
  for (const RankState& other : states) {
    const GroupState* theirs = find(other, call);
    if (theirs != nullptr && theirs->issued <= call.done) missing.push_back(&other);
  }
  return missing;
}

/// Of the calls that the rank waits in the oldest that somebody is missing from, for of two that
/// are under way together, such as a send and a receive, the older may be through; else the oldest.
const GroupState* telling_call(const RankState& state, std::span<const RankState> states) {
  for (const GroupState* call : waited_calls(state)) {
    if (!missing_from(*call, states).empty()) return call;
  }
  return waits_in(state);
}

bool fit_together(const GroupState& a, const GroupState& b) {
  const bool is_pair = (a.op == CommOp::send && b.op == CommOp::recv) ||
                       (a.op == CommOp::recv && b.op == CommOp::send);
  return a.bytes == b.bytes && (a.op == b.op || is_pair);
}

/// Why a process does not run, as it said at its end, or as the system says; empty where it runs.
std::string ailment(const RankState& state) {
  if (const int signal = state.stop_signal(); signal != 0) {
    return cat(" was stopped by ", signal_name(signal), ", and the same command goes on");
  }
  switch (state.process) {
    case 'X':
    case 'Z':
      return " has died";
    case 'T':
    case 't':
      return " is stopped (SIGSTOP or a debugger)";
    case 'D':
      return " hangs inside of the system (a file system or a driver)";
    default:
      return "";
  }
}

/// A call that some ranks wait in, and the ranks of its group that have not come to it.
struct Missed {
  GroupState call;
  std::vector<const RankState*> waiting;
  std::vector<const RankState*> missing;
};

std::vector<Missed> missed_calls(std::span<const RankState> states) {
  std::vector<Missed> all;
  for (const RankState& state : states) {
    const GroupState* call = telling_call(state, states);
    if (call == nullptr) continue;
    const auto known = std::find_if(all.begin(), all.end(), [&](const Missed& m) {
      return is_same(m.call, *call) && m.call.done == call->done;
    });
    if (known != all.end()) {
      known->waiting.push_back(&state);
      continue;
    }
    all.push_back({*call, {&state}, missing_from(*call, states)});
  }
  return all;
}

std::string ranks_of(const std::vector<const RankState*>& states) {
  std::vector<int> ranks;
  for (const RankState* state : states) ranks.push_back(state->rank);
  return name_ranks(ranks);
}

std::string last_sign(const RankState& state, double now_s) {
  return cat("; last sign of it ", seconds(now_s - state.last_s), " ago: ", state.place.str());
}

/// Of a rank that keeps others waiting, or that the system says is not running.
std::string blame(const RankState& culprit, const std::vector<Missed>& missed, double now_s) {
  std::string text = name_of(culprit) + ailment(culprit);
  for (const Missed& m : missed) {
    if (std::find(m.missing.begin(), m.missing.end(), &culprit) == m.missing.end()) continue;
    text += cat(ailment(culprit).empty() ? "" : "; it", " never entered ", call_of(m.call),
                ", where ", ranks_of(m.waiting), m.waiting.size() == 1 ? " waits (" : " wait (",
                m.waiting.front()->place.str(), ")");
    break;
  }
  return text + last_sign(culprit, now_s);
}

std::string others(const std::vector<const RankState*>& culprits) {
  if (culprits.size() < 2) return "";
  return cat("; also ", ranks_of({culprits.begin() + 1, culprits.end()}));
}

/// Two ranks that are in the same call of a group, and called different things.
std::optional<std::string> different_calls(const std::vector<Missed>& missed) {
  for (const Missed& m : missed) {
    const RankState& first = *m.waiting.front();
    for (const RankState* other : m.waiting) {
      const GroupState& theirs = *find(*other, m.call);
      if (fit_together(m.call, theirs)) continue;
      return cat("the ranks call different things: ", name_of(first), " ", call_of(m.call), " of ",
                 m.call.bytes, " bytes (", first.place.str(), "), ", name_of(*other), " ",
                 call_of(theirs), " of ", theirs.bytes, " bytes (", other->place.str(), ")");
    }
  }
  return std::nullopt;
}

constexpr const char* kGivenData = "waiting for the data of rank ";

bool is_given_data(const RankState& state) {
  return state.place.str().find(kGivenData) != std::string::npos;
}

/// Nobody waits in a call that is known: the rank that is elsewhere, or longest where it is.
std::string odd_one_out(std::span<const RankState> states, double now_s) {
  std::vector<const RankState*> suspects;
  std::vector<const RankState*> others;
  for (const RankState& state : states) {
    (is_given_data(state) ? others : suspects).push_back(&state);
  }
  if (suspects.empty()) suspects.swap(others);
  std::map<std::string, int> at;
  for (const RankState* state : suspects) ++at[state->place.str()];
  const RankState& odd = **std::min_element(
      suspects.begin(), suspects.end(), [&](const RankState* a, const RankState* b) {
        const int as = at[a->place.str()];
        const int bs = at[b->place.str()];
        return as != bs ? as < bs : a->entered_s < b->entered_s;
      });
  std::string who = name_of(odd) + " is at: ";
  if (at.size() > 1) {
    std::erase_if(suspects, [&](const RankState* s) { return s->place.str() == odd.place.str(); });
    others.swap(suspects);
  } else if (others.empty()) {
    who = "all ranks that can be seen are at: ";
  } else if (suspects.size() > 1) {
    who = ranks_of(suspects) + " are at: ";
  }
  std::string text = cat(who, odd.place.str(), ", for ", seconds(now_s - odd.entered_s));
  if (others.empty()) return text;
  return cat(text, ", while ", ranks_of(others),
             others.size() == 1 ? " is at: " : " are at: ", others.front()->place.str());
}

}  // namespace

std::string waiting_for_data(int rank, int reader) {
  return rank == reader ? "waiting for data" : cat(kGivenData, reader);
}

std::string describe_ranks(std::vector<int> ranks) {
  std::sort(ranks.begin(), ranks.end());
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    text += cat(text.empty() ? "" : ", ", ranks[i]);
    if (end - i > 1) text += cat(end - i > 2 ? "-" : ", ", ranks[end - 1]);
    i = end;
  }
  return text;
}

std::string name_ranks(const std::vector<int>& ranks) {
  return cat(ranks.size() == 1 ? "rank " : "ranks ", describe_ranks(ranks));
}

std::string describe(const RankState& state, double now_s) {
  const GroupState* call = waits_in(state);
  std::string text = cat(name_of(state), ailment(state), ": ", state.place.str(), ", for ",
                         seconds(now_s - state.entered_s));
  if (call != nullptr) {
    text += cat("; waits in ", call_of(*call), " (", call->bytes, " bytes) for ",
                seconds(now_s - call->issued_s));
  }
  return text;
}

std::string verdict(std::span<const RankState> states, int ranks, double now_s) {
  if (states.empty()) return "nothing is known of any rank";
  const std::vector<Missed> missed = missed_calls(states);
  std::vector<const RankState*> ill;  // those that were told to end first, then the dead
  for (const RankState& state : states) {
    if (state.stop_signal() != 0) ill.push_back(&state);
  }
  for (const char* letters : {"XZ", "Tt"}) {
    for (const RankState& state : states) {
      if (state.stop_signal() != 0) continue;
      if (std::string(letters).find(state.process) != std::string::npos) ill.push_back(&state);
    }
  }
  if (!ill.empty()) return blame(*ill.front(), missed, now_s) + others(ill);
  if (const auto different = different_calls(missed)) return *different;

  std::vector<const RankState*> absent;  // keep others waiting, and wait in nothing themselves
  for (const Missed& m : missed) {
    for (const RankState* state : m.missing) {
      const bool is_known = std::find(absent.begin(), absent.end(), state) != absent.end();
      if (waits_in(*state) == nullptr && !is_known) absent.push_back(state);
    }
  }
  std::stable_partition(absent.begin(), absent.end(),
                        [](const RankState* state) { return !is_given_data(*state); });
  if (!absent.empty()) return blame(*absent.front(), missed, now_s) + others(absent);

  std::vector<int> silent;
  for (int rank = 0; rank < ranks; ++rank) {
    const bool is_seen = std::any_of(states.begin(), states.end(),
                                     [&](const RankState& state) { return state.rank == rank; });
    if (!is_seen) silent.push_back(rank);
  }
  if (!silent.empty()) {
    return cat(name_ranks(silent), silent.size() == 1 ? " gives" : " give",
               " no sign: is their node lost, or cut off from the others?");
  }
  for (const Missed& m : missed) {
    if (m.missing.empty()) continue;
    const RankState& other = *m.missing.front();
    // What a rank is to receive is asked for ahead, and need not be what holds it up.
    const bool is_pair = m.call.op == CommOp::send || m.call.op == CommOp::recv;
    return cat(is_pair ? "ranks wait for each other: "
                       : "the ranks call collectives in different orders: ",
               name_of(*m.waiting.front()), " waits in ", call_of(m.call), " (",
               m.waiting.front()->place.str(), "), ", name_of(other), " in ",
               call_of(*waits_in(other)), " (", other.place.str(), ")");
  }
  if (!missed.empty()) {
    const Missed& m = missed.front();
    return cat("all ranks have entered ", call_of(m.call), " (", m.waiting.front()->place.str(),
               "), ", seconds(now_s - m.call.issued_s),
               " ago: the machine is slow, or a link between them is broken");
  }
  return odd_one_out(states, now_s);
}

}  // namespace koios
