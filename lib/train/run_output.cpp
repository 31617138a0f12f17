#include "train/run_output.hpp"

#include "metrics/provenance.hpp"
#include "metrics/replace_file.hpp"

namespace koios {

RunOutput::RunOutput(const RunConfig& config, const Launch& launch,
                     const std::vector<std::string>& hosts)
    : folder(config.job.dump_folder), metrics(folder) {
  replace_file(folder.file("effective.ini"), launch.effective_deck);
  write_provenance(folder, {.command_line = launch.command_line,
                            .libraries = launch.library_versions,
                            .hosts = hosts,
                            .threads_per_rank = DeviceEnv::host_threads()});
}

}  // namespace koios
