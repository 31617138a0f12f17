#include "train/run_self_test.hpp"

#include "core/log.hpp"
#include "measure/self_test.hpp"
#include "runtime/file.hpp"
#include "train/deck_options.hpp"
#include "train/start_report.hpp"
#include "train/training_shape.hpp"

namespace koios {

ExitCode run_self_test(const RunConfig& config, const MeshShape& mesh_shape, const MpiEnv& mpi,
                       const DeviceEnv& device, FlightRecorder& recorder, Watchdog& watchdog) {
  log::info("mesh ", mesh_shape.describe(), " | ", DeviceEnv::host_threads(), " threads per rank");
  print_places(mpi, device, mesh_shape);
  watchdog.start("making communicators");
  const Mesh mesh(mpi, mesh_shape, device.backend(), comm_options(config), &recorder);
  const FailurePoll poll(mesh, watchdog);
  watchdog.start("the self-test");
  const std::filesystem::path& folder = config.job.dump_folder;
  const DType compute = compute_type(config.training.mixed_precision_param, device.backend());
  const SelfTestReport report = self_test(mpi, mesh, device.backend(), compute, folder);
  const std::vector<std::string> hosts = mpi.all_gather(mpi.host());
  log::info("self-test:\n", measurement_table(report.measurements));
  if (mpi.rank() == 0) {
    for (const std::string& finding : report.findings) log::error("self-test: ", finding);
    std::error_code error;
    if (std::filesystem::is_directory(folder, error)) {
      files::replace(folder / "self_test.json", to_json(report, hosts));
    }
  }
  if (!report.findings.empty()) return ExitCode::failure;
  log::info("self-test: no rank differs from the others");
  return ExitCode::done;
}

}  // namespace koios
