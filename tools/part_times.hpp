// Times the named parts of a repeated round, and prints them beside what the machine allows.
// The limit of a part that memory bounds: its bytes (each input read once, each output written
// once) over a copy's rate; of the others: their operations over the best GEMM's rate, both of the
// same run. (For attention that is a bound which no kernel reaches.)
#pragma once

#include <algorithm>
#include <cstdio>
#include <deque>
#include <string>
#include <vector>

#include "runtime/stream.hpp"

namespace koios {

/// reference: the copy that gives the limit of the parts that memory bounds; no part of the sum.
enum class Kind { memory, gemm, attention, reference };

/// What a call does: bytes where memory bounds it, else floating-point operations.
struct Work {
  Kind kind;
  double amount;
};

/// Times named parts of a round that is repeated.
class PartTimes {
 public:
  explicit PartTimes(Stream& stream) : stream_(stream) {}

  /// share: how much of the part's work in a step this call does.
  template <class F>
  void time(const std::string& name, Work work, const F& run, double share = 1) {
    const std::size_t pair = 2 * calls_.size();
    while (events_.size() < pair + 2) events_.emplace_back(stream_.backend(), true);
    events_[pair].record(stream_);
    run();
    events_[pair + 1].record(stream_);
    calls_.push_back({&part(name, work), share});
  }

  /// Ends a round: seconds from the first call's start to the last's end, the copy left out.
  double end_round() {
    stream_.synchronize();
    for (Part& p : parts_) p.calls = p.work = p.round = 0;
    for (std::size_t i = 0; i < calls_.size(); ++i) {
      auto& [p, share] = calls_[i];
      p->calls += 1 / share;
      p->work += p->work_of_call / share;
      p->round += events_[2 * i + 1].seconds_since(events_[2 * i]) / share;
    }
    for (Part& p : parts_) p.seconds.push_back(p.round);
    double all = events_[2 * calls_.size() - 1].seconds_since(events_[0]);
    for (const Part& p : parts_) all -= p.kind == Kind::reference ? p.round : 0;
    calls_.clear();
    return all;
  }

  void forget() { parts_.clear(); }

  static double median_of_later_half(const std::vector<double>& all) {
    std::vector<double> late(all.begin() + std::ssize(all) / 2, all.end());
    std::nth_element(late.begin(), late.begin() + std::ssize(late) / 2, late.end());
    return late[late.size() / 2];
  }

  void report(double row_seconds, double measured) {
    double sum = 0, copy_rate = 0, gemm_rate = 0;
    for (Part& p : parts_) {
      p.median = median_of_later_half(p.seconds);
      const double rate = p.work / p.median;
      if (p.kind == Kind::reference) copy_rate = rate;
      if (p.kind == Kind::gemm) gemm_rate = std::max(gemm_rate, rate);
      if (p.kind != Kind::reference) sum += p.median;
    }
    std::printf("%-26s %6s %10s %9s %6s %8s %7s | %8s %9s %6s\n", "part", "calls", "ms/call",
                "ms/step", "%", "rate", "", "limit", "ms/step", "of it");
    double sum_at_limit = 0;
    for (const Part& p : parts_) {
      const bool by_memory = p.kind == Kind::memory || p.kind == Kind::reference;
      const double limit = by_memory ? copy_rate : gemm_rate;
      const double unit = by_memory ? 1e-9 : 1e-12;
      const double rate = p.work / p.median, at_limit = p.work / limit;
      if (p.kind != Kind::reference) sum_at_limit += at_limit;
      std::printf("%-26s %6.4g %10.4f %9.3f %6.2f %8.4g %-7s | %8.4g %9.3f %5.1f%%\n",
                  p.name.c_str(), p.calls, 1e3 * p.median / p.calls, 1e3 * p.median,
                  p.kind == Kind::reference ? 0 : 100 * p.median / sum, unit * rate,
                  by_memory ? "GB/s" : "TFLOP/s", unit * limit, 1e3 * at_limit, 100 * rate / limit);
    }
    std::printf("%-44s %9.3f %6.2f %16s | %8s %9.3f %5.1f%%\n", "sum of the parts", 1e3 * sum, 100.,
                "", "", 1e3 * sum_at_limit, 100 * sum_at_limit / sum);
    std::printf("%-44s %9.3f (%+.3f beside the sum)\n", "the same in a row, first to last call",
                1e3 * row_seconds, 1e3 * (row_seconds - sum));
    if (measured > 0) {
      std::printf("%-44s %9.3f (%+.3f: communication exposed, launch gaps)\n", "measured step",
                  1e3 * measured, 1e3 * (measured - sum));
    }
  }

 private:
  struct Part {
    std::string name;
    Kind kind;
    double work_of_call;
    double calls = 0, work = 0, round = 0;  // of the last round
    std::vector<double> seconds{};          // of each round
    double median = 0;
  };
  struct Call {
    Part* part;
    double share;
  };

  Part& part(const std::string& name, Work work) {
    for (Part& p : parts_) {
      if (p.name == name) return p;
    }
    return parts_.emplace_back(Part{name, work.kind, work.amount});
  }

  Stream& stream_;
  std::deque<Part> parts_;  // calls_ points at them
  std::vector<Event> events_;
  std::vector<Call> calls_;
};

}  // namespace koios
