// A small job for watchdog_test.py: watchdog_probe MODE FOLDER [nccl | copy_engine]
//   healthy   every rank makes five steps and ends
//   stuck     after two steps rank 1 stops calling, the others wait for it in a gather
//   stopped   the same, stopped by a signal
//   killed    the same, killed
//   mismatch  rank 1 makes another call of the group
//   order     rank 1 makes calls of two groups in another order
//   saving    between two steps all ranks take longer than was allowed first, having asked for more
//   start     rank 1 does not come to the making of communicators
//   report    a library says on rank 1 that the run has failed
// A step may take a minute, so that a busy machine fails no test; the cases shorten it. The gathers
// are over MPI, or, where the third argument says how, between GPUs.
#include <chrono>
#include <csignal>
#include <string>
#include <thread>

#include "comm/host_reduce.hpp"
#include "comm/mesh.hpp"
#include "comm/watchdog.hpp"
#include "core/log.hpp"
#include "runtime/arena.hpp"
#include "runtime/device.hpp"

namespace {

void sleep_s(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

void step(koios::Communicator& group, koios::AnyRef data, koios::Stream& stream) {
  group.all_gather(data, stream);
  stream.synchronize();
}

void reduce(koios::Communicator& group, koios::AnyRef data, koios::Stream& stream) {
  group.all_reduce({data.data, 2, data.dtype}, koios::ReduceOp::sum, stream);
  stream.synchronize();
}

}  // namespace

int main(int argc, char** argv) {
  koios::MpiEnv mpi(argc, argv);
  koios::log::configure({.rank = mpi.rank(), .shown = mpi.rank() == 0});
  const std::string mode = argv[1];
  const koios::Backend backend = argc > 3 ? koios::Backend::cuda : koios::Backend::host;
  const bool by_nccl = argc > 3 && std::string(argv[3]) == "nccl";
  const koios::CommOptions options{.init_timeout_s = 60,
                                   .train_timeout_s = 60,
                                   .trace_buf_size = 50,
                                   .shard_transport = by_nccl ? koios::ShardTransport::nccl
                                                              : koios::ShardTransport::copy_engine};
  const koios::MeshShape shape{{1, 1, mpi.size(), 1, 1}};
  koios::FlightRecorder recorder(mpi.rank(), options.trace_buf_size);
  koios::Watchdog watchdog(mpi, recorder, options, argv[2]);
  watchdog.start("making communicators");
  if (mode == "start") {
    watchdog.allow(2);
    if (mpi.rank() == 1) sleep_s(3600);
  }
  const koios::DeviceEnv device(backend, mpi.local_rank());
  const koios::Mesh mesh(mpi, shape, backend, options, &recorder);
  const std::int64_t count = 1000 * mpi.size();
  koios::Arena arena(backend, {{}, 1 << 20});
  const koios::AnyRef gathered = arena.take(koios::DType::float32, "gathered", count);
  const koios::AnyRef reduced = arena.take(koios::DType::float32, "reduced", count);
  mesh.share_memory(arena.memory());
  koios::Stream stream(backend, "probe");
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
      if (mode == "mismatch") reduce(mesh.shard_gather(), gathered, stream);
      if (mode == "order") step(mesh.shard_reduce(), reduced, stream);
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
    step(mesh.shard_gather(), gathered, stream);
    step(mesh.shard_reduce(), reduced, stream);
    watchdog.beat();
  }
  mesh.share_memory({});
  koios::log::info("five steps");
  return 0;
}
