// How a program ends that throws where waiting would be wrong: failure_probe MODE, see
// failure_test.py.
#include <mpi.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>

#include "app/failure.hpp"
#include "core/log.hpp"
#include "data/prefetcher.hpp"
#include "runtime/mpi_env.hpp"

namespace {

bool g_abort_waits = false;

void sleep_for_an_hour() { std::this_thread::sleep_for(std::chrono::hours(1)); }

struct ThrowsAtItsEnd {
  ~ThrowsAtItsEnd() noexcept(false) { throw koios::UserError("at the end of a scope"); }
};

}  // namespace

/// In MPI's place: may wait for a lock that is never given back.
extern "C" int MPI_Abort(MPI_Comm comm, int code) {
  if (!g_abort_waits) return PMPI_Abort(comm, code);
  alarm(1);  // the 20 s that were set, shortened
  sleep_for_an_hour();
  return MPI_SUCCESS;
}

int main(int argc, char** argv) {
  return koios::guard([&]() -> koios::ExitCode {
    const std::string mode = argv[1];
    if (mode == "command line") throw koios::CommandLineError("--nonsense is not an option");
    const koios::MpiEnv mpi(argc, argv);
    koios::log::configure({.rank = mpi.rank(), .shown = true});
    if (mode == "stuck reader") {
      koios::Prefetcher data(
          [](const std::stop_token& /*stop*/) -> std::optional<koios::Batch> {
            sleep_for_an_hour();  // in a file system that hangs
            return std::nullopt;
          },
          1);
      throw koios::UserError("the disk is full");
    }
    if (mode == "thread") std::thread([] { throw koios::UserError("in a thread"); }).join();
    if (mode == "destructor") {
      const ThrowsAtItsEnd scope;
      throw koios::UserError("inside of the scope");
    }
    if (mode == "number") throw 7;
    g_abort_waits = mode == "stuck abort";
    throw koios::UserError("with an abort that waits");
  });
}
