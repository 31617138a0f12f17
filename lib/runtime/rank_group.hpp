// Some ranks of the job, and what they tell each other in host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <type_traits>
#include <vector>

namespace koios {

class RankGroup {
 public:
  RankGroup(RankGroup&&) noexcept;
  RankGroup& operator=(RankGroup&&) noexcept;
  ~RankGroup();

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_root() const { return rank_ == 0; }
  /// Of this rank.
  const std::string& host() const { return host_; }

  /// Rank 0's text on every rank.
  std::string broadcast(const std::string& text_on_root) const;
  /// Every rank's text, in rank order, on every rank.
  std::vector<std::string> all_gather(const std::string& text) const;
  /// Every rank's value, in rank order, on every rank.
  template <class T>
  requires std::is_trivially_copyable_v<T> std::vector<T> all_gather_values(const T& value)
  const {
    std::vector<T> all(static_cast<std::size_t>(size_));
    all_gather_bytes(&value, sizeof value, all.data());
    return all;
  }
  /// Of each record of `size` integers, the largest that any rank has (by the first integer, of
  /// equals by the next), on every rank. All ranks have as many records.
  void all_keep_largest(std::span<std::int64_t> records, std::size_t size) const;
  /// Element by element over the ranks, modulo 2^64.
  void all_sum(std::span<std::uint64_t> values) const;
  /// Runs `work` on every rank (or on rank 0 only) and throws the first failing rank's error on all
  /// of them, as UserError with its number.
  void together(const std::function<void()>& work) const;
  void on_root(const std::function<void()>& work) const;
  /// Collective: those ranks of this group that give the same number, in the same order.
  RankGroup split(int number) const;
  /// The MPI_Comm, for libraries that take one.
  const void* native() const;

 protected:
  RankGroup();  // of nobody yet
  /// All ranks of the job, once MPI runs.
  static RankGroup world(std::string host);

 private:
  friend class BackgroundBroadcast;
  struct Comm;
  RankGroup(std::unique_ptr<Comm> comm, std::string host);
  void all_gather_bytes(const void* mine, std::size_t size, void* all) const;

  std::unique_ptr<Comm> comm_;
  int rank_ = 0, size_ = 1;
  std::string host_;
};

/// Messages of rank 0 to the others of a group, sent and received by a thread of each rank while
/// other threads use MPI, too (MPI_THREAD_MULTIPLE).
class BackgroundBroadcast {
 public:
  using Message = std::vector<std::byte>;

  /// Collective.
  explicit BackgroundBroadcast(const RankGroup& group);
  /// Collective, once the thread has ended: ranks that got fewer messages than others pass over the
  /// rest. Lets go without waiting under an exception.
  ~BackgroundBroadcast();
  BackgroundBroadcast(const BackgroundBroadcast&) = delete;
  BackgroundBroadcast& operator=(const BackgroundBroadcast&) = delete;

  bool is_root() const { return group_.rank() == 0; }
  /// Rank 0's next message on every rank, on which it waits for all ranks; none where it was asked
  /// to stop meanwhile: then it is the last call.
  std::optional<Message> next(Message on_root, const std::stop_token& stop);

 private:
  struct Pending;
  bool advance(const std::stop_token& stop);
  bool complete(const std::stop_token& stop);
  void start(void* data, std::size_t bytes);

  RankGroup group_;
  std::unique_ptr<Pending> pending_;
};

}  // namespace koios
