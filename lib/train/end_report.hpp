// What is printed at the end of a run: where the time went and what was sent.
#pragma once

#include <cstdint>

#include "comm/mesh.hpp"
#include "metrics/timers.hpp"

namespace koios {

/// Minimum, mean and maximum of each timer over the ranks. Collective.
void print_timers(const Timers& timers, const Mesh& mesh, double whole_s);

/// Bytes that this rank has sent since the start.
struct SentBytes {
  std::int64_t gathered = 0, reduced = 0;  // shards
  std::int64_t between_replicas = 0;
  // tensor parallelism
  std::int64_t tp_gathered = 0, tp_reduced = 0, tp_all_reduced = 0, tp_exchanged = 0;
  std::int64_t between_stages = 0;
  std::int64_t cp_gathered = 0, cp_reduced = 0;  // context parallelism

  SentBytes& operator+=(const SentBytes& other);
  SentBytes operator-(const SentBytes& other) const;
};
SentBytes sent_bytes(const Mesh& mesh);
/// sent: by `steps` steps of training alone.
void print_traffic(const Mesh& mesh, const SentBytes& sent, std::int64_t steps);

}  // namespace koios
