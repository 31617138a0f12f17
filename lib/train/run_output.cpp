#include "train/run_output.hpp"

#include <fstream>

#include "metrics/provenance.hpp"

namespace koios {

RunOutput::RunOutput(const RunConfig& config, const Launch& launch,
                     const std::vector<std::string>& hosts)
    : folder(config.job.dump_folder), metrics(folder) {
  const auto path = folder.file("effective.ini");
  std::ofstream out(path);
  out << launch.effective_deck;
  if (!out.flush()) throw UserError(cat("cannot write ", path.string()));
  write_provenance(folder, {.command_line = launch.command_line,
                            .libraries = launch.library_versions,
                            .hosts = hosts,
                            .threads_per_rank = DeviceEnv::host_threads()});
}

}  // namespace koios
