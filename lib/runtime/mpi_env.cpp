#include "runtime/mpi_env.hpp"

#include <mpi.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>

#include "core/error.hpp"
#include "core/free_memory.hpp"
#include "core/log.hpp"
#include "core/unwinding.hpp"
#include "runtime/check_mpi.hpp"
#include "runtime/launch_check.hpp"

namespace koios {
namespace {

constexpr unsigned kLastSeconds = 20;

// Used by signal handlers.
std::atomic<std::int32_t*> g_end_mark = nullptr;
std::atomic<std::int32_t*> g_told = nullptr;
std::atomic<int> g_exit_code = 0;
static_assert(std::atomic<std::int32_t*>::is_always_lock_free);
static_assert(std::atomic<int>::is_always_lock_free);
static_assert(std::atomic_ref<std::int32_t>::is_always_lock_free);

/// Where there is such a number: what it was.
std::int32_t exchange(const std::atomic<std::int32_t*>& number, std::int32_t value) {
  std::int32_t* shared = number;
  return shared == nullptr ? 0 : std::atomic_ref<std::int32_t>(*shared).exchange(value);
}

std::string host_name() {
  std::array<char, 256> host{};
  return gethostname(host.data(), host.size() - 1) == 0 ? host.data() : "";
}

bool is_mpi_running() {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized != 0 && finalized == 0;
}

/// Where memory is short, MPI ends the process with words that do not say so.
void warn_of_little_memory() {
  constexpr std::int64_t kUsual = std::int64_t{256} << 20;  // of address space, at the start
  const FreeMemory free = free_process_memory();
  if (free.bytes >= kUsual || launched_rank(std::getenv) != 0) return;
  log::warning("only ", free.bytes >> 20, " MiB of ", free.of, " are left, and MPI's start takes ",
               "about ", kUsual >> 20, ": if it fails, this is why");
}

}  // namespace

void check_mpi(int code, const char* call, std::source_location where) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw LibraryError("MPI", call, std::string(text.data(), static_cast<std::size_t>(length)),
                     where);
}

std::string node_name() {
  const char* id = std::getenv("NCCL_HOSTID");
  return id != nullptr && *id != '\0' ? id : host_name();
}

MpiEnv::MpiEnv(int& argc, char**& argv) {
  int provided = MPI_THREAD_SINGLE;
  if (is_mpi_running()) {
    check_mpi(MPI_Query_thread(&provided), "MPI_Query_thread");
  } else {
#ifdef OPEN_MPI  // other libraries may find each other by other means
    constexpr int kLeastTasks = OMPI_MAJOR_VERSION < 5 ? 1 : 2;  // 4 aborts even for one task
    if (const auto problem = missing_pmix(std::getenv, kLeastTasks); !problem.empty()) {
      throw UserError(problem);
    }
#endif
    warn_of_little_memory();
    check_mpi(MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    finalize_ = true;
  }
  thread_multiple_ = provided == MPI_THREAD_MULTIPLE;
  // Inherited by every communicator made from these two.
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  static_cast<RankGroup&>(*this) = RankGroup::world(host_name());

  MPI_Comm node = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank(), MPI_INFO_NULL, &node),
            "MPI_Comm_split_type");
  check_mpi(MPI_Comm_rank(node, &local_rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(node, &local_size_), "MPI_Comm_size");
  check_mpi(MPI_Comm_free(&node), "MPI_Comm_free");

  if (const auto problem = alone_among_tasks(std::getenv, size()); !problem.empty()) {
    throw UserError(problem);
  }
  if (const auto problem = forgotten_launcher(std::getenv, size()); !problem.empty()) {
    log::warning(problem);
  }
}

MpiEnv::~MpiEnv() {
  // With an exception in flight other ranks may wait elsewhere, and MPI_Finalize would hang: main
  // calls abort() instead.
  if (!finalize_ || is_unwinding()) return;
  if (is_mpi_running()) MPI_Finalize();
}

void MpiEnv::mark_end_in(std::int32_t* mark, std::int32_t* told) {
  g_end_mark = mark;
  g_told = told;
}

void MpiEnv::mark_stop(int signal) { exchange(g_end_mark, -signal); }

bool MpiEnv::is_first_to_tell() { return exchange(g_told, 1) == 0; }

void MpiEnv::end_soon(ExitCode code) {
  exchange(g_end_mark, 1);
  exchange(g_told, 1);
  g_exit_code = to_int(code);
  struct sigaction action = {};
  action.sa_handler = [](int) { _exit(g_exit_code); };
  sigaction(SIGALRM, &action, nullptr);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
  alarm(kLastSeconds);
}

void MpiEnv::abort(ExitCode code) {
  end_soon(code);
  if (is_mpi_running()) MPI_Abort(MPI_COMM_WORLD, to_int(code));
  std::_Exit(to_int(code));
}

}  // namespace koios
