#include "runtime/rank_group.hpp"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/unwinding.hpp"
#include "runtime/check_mpi.hpp"
#include "runtime/first_problem.hpp"

namespace koios {
namespace {

/// An MPI_User_function over records of 64-bit integers.
void keep_larger(void* other, void* mine, int* records, MPI_Datatype* record) {
  int bytes = 0;
  MPI_Type_size(*record, &bytes);
  const auto size =
      static_cast<std::ptrdiff_t>(bytes) / narrow<std::ptrdiff_t>(sizeof(std::int64_t));
  const auto* from = static_cast<const std::int64_t*>(other);
  auto* to = static_cast<std::int64_t*>(mine);
  for (int i = 0; i < *records; ++i, from += size, to += size) {
    if (std::lexicographical_compare(to, to + size, from, from + size)) std::copy_n(from, size, to);
  }
}

}  // namespace

struct RankGroup::Comm {
  MPI_Comm mpi = MPI_COMM_NULL;

  explicit Comm(MPI_Comm comm) : mpi(comm) {}
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;
  ~Comm() {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (mpi != MPI_COMM_WORLD && finalized == 0 && !is_unwinding()) MPI_Comm_free(&mpi);
  }
};

RankGroup::RankGroup(std::unique_ptr<Comm> comm, std::string host)
    : comm_(std::move(comm)), host_(std::move(host)) {
  check_mpi(MPI_Comm_rank(comm_->mpi, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm_->mpi, &size_), "MPI_Comm_size");
}

RankGroup::RankGroup() = default;
RankGroup::RankGroup(RankGroup&&) noexcept = default;
RankGroup& RankGroup::operator=(RankGroup&&) noexcept = default;
RankGroup::~RankGroup() = default;

RankGroup RankGroup::world(std::string host) {
  return RankGroup(std::make_unique<Comm>(MPI_COMM_WORLD), std::move(host));
}

RankGroup RankGroup::split(int number) const {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(comm_->mpi, number, rank_, &comm), "MPI_Comm_split");
  return RankGroup(std::make_unique<Comm>(comm), host_);
}

std::string RankGroup::broadcast(const std::string& text_on_root) const {
  auto length = static_cast<std::int64_t>(text_on_root.size());
  check_mpi(MPI_Bcast(&length, 1, MPI_INT64_T, 0, comm_->mpi), "MPI_Bcast");
  std::string text = text_on_root;
  text.resize(static_cast<std::size_t>(length));
  check_mpi(MPI_Bcast(text.data(), narrow<int>(length), MPI_CHAR, 0, comm_->mpi), "MPI_Bcast");
  return text;
}

std::vector<std::string> RankGroup::all_gather(const std::string& text) const {
  const int length = narrow<int>(text.size());
  std::vector<int> lengths(static_cast<std::size_t>(size_));
  check_mpi(MPI_Allgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, comm_->mpi),
            "MPI_Allgather");
  std::vector<int> starts(lengths.size(), 0);
  std::partial_sum(lengths.begin(), lengths.end() - 1, starts.begin() + 1);
  std::string all(static_cast<std::size_t>(starts.back() + lengths.back()), '\0');
  check_mpi(MPI_Allgatherv(text.data(), length, MPI_CHAR, all.data(), lengths.data(), starts.data(),
                           MPI_CHAR, comm_->mpi),
            "MPI_Allgatherv");
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < lengths.size(); ++r) {
    texts.push_back(
        all.substr(static_cast<std::size_t>(starts[r]), static_cast<std::size_t>(lengths[r])));
  }
  return texts;
}

void RankGroup::all_gather_bytes(const void* mine, std::size_t size, void* all) const {
  const int count = narrow<int>(size);
  check_mpi(MPI_Allgather(mine, count, MPI_BYTE, all, count, MPI_BYTE, comm_->mpi),
            "MPI_Allgather");
}

void RankGroup::all_keep_largest(std::span<std::int64_t> records, std::size_t size) const {
  KOIOS_REQUIRE(size > 0 && records.size() % size == 0, records.size(), " of ", size);
  MPI_Datatype record = MPI_DATATYPE_NULL;
  check_mpi(MPI_Type_contiguous(narrow<int>(size), MPI_INT64_T, &record), "MPI_Type_contiguous");
  check_mpi(MPI_Type_commit(&record), "MPI_Type_commit");
  MPI_Op larger = MPI_OP_NULL;
  check_mpi(MPI_Op_create(&keep_larger, 1, &larger), "MPI_Op_create");
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, records.data(), narrow<int>(records.size() / size), record,
                          larger, comm_->mpi),
            "MPI_Allreduce");
  check_mpi(MPI_Op_free(&larger), "MPI_Op_free");
  check_mpi(MPI_Type_free(&record), "MPI_Type_free");
}

void RankGroup::all_sum(std::span<std::uint64_t> values) const {
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data(), narrow<int>(values.size()), MPI_UINT64_T,
                          MPI_SUM, comm_->mpi),
            "MPI_Allreduce");
}

void RankGroup::together(const std::function<void()>& work) const {
  const auto problem = first_problem(comm_->mpi, work);
  if (!problem) return;
  throw UserError(problem->rank == 0 ? problem->text
                                     : cat(problem->text, " (rank ", problem->rank, ")"));
}

void RankGroup::on_root(const std::function<void()>& work) const {
  together([&] {
    if (is_root()) work();
  });
}

const void* RankGroup::native() const { return &comm_->mpi; }

struct BackgroundBroadcast::Pending {
  enum class Phase { none, size, bytes, ended };
  Phase phase = Phase::none;
  std::int64_t size = 0;  // of the message; -1: there are no more
  Message message;
  MPI_Request request = MPI_REQUEST_NULL;
};

BackgroundBroadcast::BackgroundBroadcast(const RankGroup& group)
    : group_(group.split(0)), pending_(std::make_unique<Pending>()) {}

BackgroundBroadcast::~BackgroundBroadcast() {
  if (is_unwinding()) {
    static_cast<void>(pending_.release());  // MPI may still write to it
    return;
  }
  while (pending_->phase != Pending::Phase::ended) {
    if (is_root() && pending_->phase == Pending::Phase::none) pending_->size = -1;
    advance({});
  }
}

void BackgroundBroadcast::start(void* data, std::size_t bytes) {
  check_mpi(
      MPI_Ibcast(data, narrow<int>(bytes), MPI_BYTE, 0, group_.comm_->mpi, &pending_->request),
      "MPI_Ibcast");
}

/// Sleeps in between: what it waits for is needed some batches later.
bool BackgroundBroadcast::complete(const std::stop_token& stop) {
  constexpr std::chrono::microseconds kLongest{2000};
  for (std::chrono::microseconds pause{20};; pause = std::min(2 * pause, kLongest)) {
    int is_done = 0;
    check_mpi(MPI_Test(&pending_->request, &is_done, MPI_STATUS_IGNORE), "MPI_Test");
    if (is_done != 0) return true;
    if (stop.stop_requested()) return false;
    std::this_thread::sleep_for(pause);
  }
}

/// Takes one message as far as it gets: its size, then its bytes. false: stopped on the way.
bool BackgroundBroadcast::advance(const std::stop_token& stop) {
  using enum Pending::Phase;
  Pending& p = *pending_;
  if (p.phase == none) {
    start(&p.size, sizeof(p.size));
    p.phase = size;
  }
  if (p.phase == size) {
    if (!complete(stop)) return false;
    if (p.size < 0) {
      p.phase = ended;
      return true;
    }
    p.message.resize(static_cast<std::size_t>(p.size));
    start(p.message.data(), p.message.size());
    p.phase = bytes;
  }
  if (!complete(stop)) return false;
  p.phase = none;
  return true;
}

std::optional<BackgroundBroadcast::Message> BackgroundBroadcast::next(Message on_root,
                                                                      const std::stop_token& stop) {
  KOIOS_REQUIRE(pending_->phase == Pending::Phase::none, "the call before was the last");
  pending_->size = std::ssize(on_root);
  pending_->message = std::move(on_root);
  if (!advance(stop)) return std::nullopt;
  return std::move(pending_->message);
}

}  // namespace koios
