#include "comm/node_board.hpp"

#include <fcntl.h>
#include <mpi.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <optional>
#include <random>

#include "comm/mpi_communicator.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"
#include "runtime/check_mpi.hpp"
#include "runtime/file.hpp"

namespace koios {
namespace {

struct FileHead {
  std::array<char, 8> magic{'k', 'o', 'i', 'o', 's', 's', 't', '1'};
  std::int64_t job = 0;
};

/// Of a process of this node: a letter of /proc/PID/stat, 'X' where it is gone.
char process_state(std::int32_t pid) {
  std::ifstream file(cat("/proc/", pid, "/stat"));
  std::string line;
  if (!std::getline(file, line)) return kill(pid, 0) != 0 && errno == ESRCH ? 'X' : '?';
  const auto name_end = line.rfind(')');
  return name_end != std::string::npos && name_end + 2 < line.size() ? line[name_end + 2] : '?';
}

/// Its writer may be stopped in the middle: then half of it is better than nothing.
RankState copy_of(const RankState& shared) {
  RankState copy;
  for (int attempt = 0; attempt < 100; ++attempt) {
    const auto before = std::atomic_ref(const_cast<std::uint32_t&>(shared.version)).load();
    std::memcpy(&copy, &shared, sizeof(copy));
    std::atomic_thread_fence(std::memory_order_acquire);
    const auto after = std::atomic_ref(const_cast<std::uint32_t&>(shared.version)).load();
    if (before == after && before % 2 == 0) break;
  }
  copy.groups = std::clamp<std::int32_t>(copy.groups, 0, static_cast<int>(copy.group.size()));
  return copy;
}

std::filesystem::path states_file(const std::filesystem::path& folder, int first_rank) {
  return folder / "comm_trace" / cat("node_of_rank_", first_rank);
}

/// The states in a file, where it is of this job.
std::vector<RankState> read_file(const std::filesystem::path& path, std::int64_t job, int ranks) {
  const auto most = static_cast<std::int64_t>(sizeof(FileHead)) +
                    ranks * static_cast<std::int64_t>(sizeof(RankState));
  const std::optional<std::string> text = files::read_whole(path, most);
  FileHead head;
  if (!text || text->size() < sizeof(head)) return {};
  std::memcpy(&head, text->data(), sizeof(head));
  if (head.magic != FileHead{}.magic || head.job != job) return {};
  std::vector<RankState> states((text->size() - sizeof(head)) / sizeof(RankState));
  if (states.empty()) return {};
  std::memcpy(states.data(), text->data() + sizeof(head), states.size() * sizeof(RankState));
  for (RankState& state : states) state = copy_of(state);  // its counts are in bounds
  return states;
}

}  // namespace

NodeBoard::NodeBoard(const MpiEnv& mpi) : ranks_(mpi.size()), first_rank_(mpi.rank()) {
  if (mpi.rank() == 0) job_ = static_cast<std::int64_t>(std::random_device{}()) << 16 ^ getpid();
  check_mpi(MPI_Bcast(&job_, 1, MPI_INT64_T, 0, MPI_COMM_WORLD), "MPI_Bcast");
  MPI_Comm raw = MPI_COMM_NULL;
  check_mpi(
      MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, mpi.rank(), MPI_INFO_NULL, &raw),
      "MPI_Comm_split_type");
  const MpiComm node(raw);
  check_mpi(MPI_Bcast(&first_rank_, 1, MPI_INT, 0, node.get()), "MPI_Bcast");
  int is_first = mpi.local_rank() == 0 ? 1 : 0;
  check_mpi(MPI_Allreduce(&is_first, &nodes_, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD),
            "MPI_Allreduce");

  // A file that has no name any more once all have opened it.
  std::array<char, 64> name{};
  if (mpi.local_rank() == 0) {
    cat("/koios.", getpid(), ".", std::random_device{}()).copy(name.data(), name.size() - 1);
  }
  check_mpi(MPI_Bcast(name.data(), narrow<int>(name.size()), MPI_CHAR, 0, node.get()), "MPI_Bcast");
  const auto bytes = static_cast<std::size_t>(mpi.local_size()) * sizeof(RankState);
  void* memory = MAP_FAILED;
  const auto map = [&](int flags) {
    const int fd = shm_open(name.data(), O_RDWR | flags, 0600);
    if (fd < 0) return;
    const bool is_sized = flags == 0 || posix_fallocate(fd, 0, static_cast<off_t>(bytes)) == 0;
    if (is_sized) memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
  };
  if (mpi.local_rank() == 0) map(O_CREAT | O_EXCL);
  check_mpi(MPI_Barrier(node.get()), "MPI_Barrier");
  if (mpi.local_rank() != 0) map(0);
  int is_shared = memory != MAP_FAILED ? 1 : 0;
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &is_shared, 1, MPI_INT, MPI_MIN, node.get()),
            "MPI_Allreduce");
  if (mpi.local_rank() == 0) shm_unlink(name.data());
  if (is_shared == 1) {
    all_ = {static_cast<RankState*>(memory), static_cast<std::size_t>(mpi.local_size())};
    mine_ = &all_[static_cast<std::size_t>(mpi.local_rank())];
  } else if (memory != MAP_FAILED) {
    munmap(memory, bytes);
  }
  if (is_shared == 0) all_ = {&own_, 1};
  *mine_ = {};
  mine_->pid = getpid();
  mine_->host = mpi.host();
  mine_->rank = mpi.rank();
  check_mpi(MPI_Barrier(node.get()), "MPI_Barrier");
}

NodeBoard::~NodeBoard() {
  if (mine_ != &own_) munmap(all_.data(), all_.size_bytes());
}

std::vector<RankState> NodeBoard::read() const {
  std::vector<RankState> states;
  for (const RankState& shared : all_) {
    RankState state = copy_of(shared);
    if (state.rank < 0) continue;
    state.process = state.ending != 0 ? '?' : process_state(state.pid);
    states.push_back(state);
  }
  return states;
}

void NodeBoard::write(const std::filesystem::path& folder) const {
  const std::vector<RankState> states = read();
  FileHead head;
  head.job = job_;
  std::string text(sizeof(head) + states.size() * sizeof(RankState), '\0');
  std::memcpy(text.data(), &head, sizeof(head));
  std::memcpy(text.data() + sizeof(head), states.data(), states.size() * sizeof(RankState));
  const std::filesystem::path path = states_file(folder, first_rank_);
  std::filesystem::create_directories(path.parent_path());
  files::replace(path, text);
}

std::vector<RankState> NodeBoard::read_nodes(const std::filesystem::path& folder) const {
  std::vector<RankState> states = read();
  for (int rank = 0; rank < ranks_; ++rank) {
    if (rank == first_rank_) continue;
    const auto theirs = read_file(states_file(folder, rank), job_, ranks_);
    states.insert(states.end(), theirs.begin(), theirs.end());
  }
  return states;
}

}  // namespace koios
