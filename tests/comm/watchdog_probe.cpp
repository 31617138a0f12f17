// A small job for watchdog_test.py: watchdog_probe MODE FOLDER
//   healthy   every rank makes five steps and ends
//   stuck     after two steps rank 1 stops calling, the others wait for it in a gather
//   stopped   the same, stopped by a signal
//   killed    the same, killed
//   mismatch  rank 1 makes another call of the group
//   order     rank 1 makes calls of two groups in another order
//   saving    between two steps all ranks take longer than was allowed first, having asked for more
//   start     rank 1 does not come to the making of communicators
//   report    a library says on rank 1 that the run has failed
// A step may take a minute, so that a busy machine fails no test; the cases shorten it.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "comm/host_reduce.hpp"
#include "comm/mesh.hpp"
#include "comm/watchdog.hpp"
#include "core/log.hpp"

namespace {

void sleep_s(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

void step(koios::Communicator& group) {
  std::vector<float> data(static_cast<std::size_t>(1000 * group.size()));
  koios::Stream stream(koios::Backend::host, "probe");
  group.all_gather(koios::any(koios::make_ref(data.data(), data.size())), stream);
  stream.synchronize();
}

void reduce(koios::Communicator& group) {
  double value = 1;
  koios::all_reduce_sum(group, {&value, 1});
}

}  // namespace

int main(int argc, char** argv) {
  koios::MpiEnv mpi(argc, argv);
  koios::log::configure({.rank = mpi.rank(), .shown = mpi.rank() == 0});
  const std::string mode = argv[1];
  const koios::CommOptions options{
      .init_timeout_s = 60, .train_timeout_s = 60, .trace_buf_size = 50};
  const koios::MeshShape shape{{1, 1, mpi.size(), 1, 1}};
  koios::FlightRecorder recorder(mpi.rank(), options.trace_buf_size);
  koios::Watchdog watchdog(mpi, recorder, options, argv[2]);
  watchdog.start("making communicators");
  if (mode == "start") {
    watchdog.allow(2);
    if (mpi.rank() == 1) sleep_s(3600);
  }
  const koios::Mesh mesh(mpi, shape, koios::Backend::host, options, &recorder);
  const koios::FailurePoll poll(mesh, watchdog);
  for (int i = 0; i < 5; ++i) {
    recorder.at_step(i + 1);
    recorder.enter("between");
    const bool goes_wrong = i == 2 && mode != "healthy" && mode != "saving";
    if (goes_wrong) watchdog.allow(2);
    if (goes_wrong && mpi.rank() == 1) {
      if (mode == "stuck") sleep_s(3600);
      if (mode == "stopped") raise(SIGSTOP);
      if (mode == "killed") raise(SIGKILL);
      if (mode == "mismatch") reduce(mesh.shard_gather());
      if (mode == "order") step(mesh.shard_reduce());
    }
    if (mode == "report" && i == 2 && mpi.rank() == 1) {
      watchdog.report("tp: it is broken");
      sleep_s(3600);
    }
    if (mode == "saving" && i == 2) {
      watchdog.allow(1);
      watchdog.allow(30);
      sleep_s(2.5);
    }
    recorder.enter("gathering");
    step(mesh.shard_gather());
    step(mesh.shard_reduce());
    watchdog.beat();
  }
  koios::log::info("five steps");
  return 0;
}
