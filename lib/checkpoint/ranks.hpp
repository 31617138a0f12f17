// The ranks that save or load together: a communicator of their own, so that a thread may use it
// beside the training's, and failures that all of them hear of.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace koios {

class CheckpointRanks {
 public:
  /// All ranks of the job, or this one alone. Collective.
  enum class Who { world, self };
  explicit CheckpointRanks(Who who = Who::world);
  CheckpointRanks(CheckpointRanks&&) noexcept;
  CheckpointRanks& operator=(CheckpointRanks&&) noexcept;
  ~CheckpointRanks();

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_root() const { return rank_ == 0; }

  /// Rank 0's text on every rank.
  std::string broadcast(const std::string& text_on_root) const;
  /// Element by element over the ranks; sums modulo 2^64.
  void sum(std::vector<std::uint64_t>& values) const;
  void max(std::vector<std::int64_t>& values) const;

  /// Runs `work` on every rank (or on rank 0 only) and throws the first failing rank's error on all
  /// of them, as UserError with its number.
  void together(const std::function<void()>& work) const;
  void on_root(const std::function<void()>& work) const;

  /// The MPI_Comm, for libraries that take one.
  const void* native() const;

 private:
  struct Comm;
  std::unique_ptr<Comm> comm_;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace koios
