#include "runtime/signals.hpp"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "core/error.hpp"
#include "core/exit_code.hpp"
#include "runtime/launch_check.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

constexpr std::array<int, 4> kTaken = {SIGUSR1, SIGUSR2, SIGTERM, SIGINT};
/// One wish may arrive twice: a batch system signals the ranks and their launcher, which forwards.
constexpr std::int64_t kSameWishNs = 500'000'000;

// A handler can reach nothing but what is static.
std::atomic<bool> save_asked{false};
std::atomic<int> launcher_saves{0};
std::atomic<std::int64_t> launcher_save_ns{0};
std::atomic<int> stop_asked{0};
std::atomic<std::int64_t> stop_asked_ns{0};
std::atomic<bool> stops_wait{false};
std::atomic<int> my_rank{0};
std::array<struct sigaction, kTaken.size()> before;

static_assert(std::atomic<std::int64_t>::is_always_lock_free);

std::int64_t monotonic_ns() {
  struct timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

bool is_from_launcher(const siginfo_t& signal) {
  return signal.si_code <= 0 && signal.si_pid == ::getppid();
}

/// A launcher signals all of its ranks, and a terminal (si_code > 0) all that it runs; who else
/// sends a signal means this process.
bool is_for_all_ranks(const siginfo_t& signal) {
  return signal.si_code > 0 || is_from_launcher(signal);
}

/// One line; only calls that a handler may make.
void tell(const siginfo_t& signal, const char* why) {
  std::array<char, 20> rank{" rank "};
  char* const digits = rank.data() + std::strlen(rank.data());
  std::to_chars(digits, rank.data() + rank.size() - 1, my_rank.load());
  std::array<char, 200> line{};
  char* end = line.data();
  for (const char* text :
       {"[koios", is_for_all_ranks(signal) ? "" : rank.data(), "] ", signal_name(signal.si_signo),
        is_from_launcher(signal) ? " from the launcher" : "", why}) {
    const std::size_t length = std::strlen(text);
    std::memcpy(end, text, length);
    end += length;
  }
  [[maybe_unused]] const auto written =
      ::write(STDERR_FILENO, line.data(), static_cast<std::size_t>(end - line.data()));
}

/// What all ranks are told is rank 0's to say, and what one is told is its own. Others of the node
/// that end for the same reason, or because the launcher ends them all, are silent.
[[noreturn]] void end_at_once(const siginfo_t& signal, const char* why, int exit_code) {
  MpiEnv::mark_stop(signal.si_signo);
  const bool is_mine = my_rank == 0 || !is_for_all_ranks(signal);
  if (is_mine && MpiEnv::is_first_to_tell()) tell(signal, why);
  ::_exit(exit_code);
}

void on_stop(const siginfo_t& signal) {
  const std::int64_t now = monotonic_ns();
  std::int64_t first = 0;
  if (stop_asked_ns.compare_exchange_strong(first, now)) {
    if (!stops_wait) {
      // By SIGTERM a launcher also ends the ranks that are left when another has failed.
      const bool may_follow_error = signal.si_signo == SIGTERM && is_from_launcher(signal);
      end_at_once(signal,
                  may_follow_error ? ": stopped; nothing is lost, and the same command goes on "
                                     "unless a rank reports an error\n"
                                   : ": stopped; nothing is lost, the same command goes on\n",
                  to_int(ExitCode::stopped));
    }
    stop_asked = signal.si_signo;
  } else if (now - first > kSameWishNs) {
    end_at_once(signal, " again: stopped at once, the newest complete checkpoint stands\n",
                128 + signal.si_signo);
  }
}

void on_save(const siginfo_t& signal) {
  if (!is_from_launcher(signal)) {
    save_asked = true;
    return;
  }
  const std::int64_t now = monotonic_ns();
  const std::int64_t last = launcher_save_ns;
  if (last != 0 && now - last <= kSameWishNs) return;
  launcher_save_ns = now;
  ++launcher_saves;
}

void handle(int number, siginfo_t* signal, void* /*context*/) {
  const int saved_errno = errno;
  if (number == SIGUSR1) {
    on_save(*signal);
  } else {
    on_stop(*signal);
  }
  errno = saved_errno;
}

}  // namespace

const char* signal_name(int signal) {
  switch (signal) {
    case SIGUSR1:
      return "SIGUSR1";
    case SIGUSR2:
      return "SIGUSR2";
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return "a signal";
  }
}

Signals::Signals() {
  save_asked = false;
  launcher_saves = 0;
  launcher_save_ns = 0;
  stop_asked = 0;
  stop_asked_ns = 0;
  stops_wait = false;
  my_rank = launched_rank(std::getenv);
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_RESTART;  // reads and writes of the libraries go on
  for (std::size_t i = 0; i < kTaken.size(); ++i) {
    const int failed = ::sigaction(kTaken[i], &action, &before[i]);
    KOIOS_REQUIRE(failed == 0, "sigaction: ", std::strerror(errno));
  }
}

Signals::~Signals() {
  for (std::size_t i = 0; i < kTaken.size(); ++i) ::sigaction(kTaken[i], &before[i], nullptr);
}

void Signals::hold_stops() { stops_wait = true; }

bool Signals::take_save() { return save_asked.exchange(false); }

int Signals::saves_of_launcher() const { return launcher_saves; }

int Signals::stop() const { return stop_asked; }

}  // namespace koios
