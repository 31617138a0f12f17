#include "config/run_schema.hpp"

namespace koios {
namespace {

AbsentKey retired(std::string section, std::string key, const std::string& instead) {
  return {std::move(section), std::move(key), "is not a key of Koios: " + instead};
}

}  // namespace

const std::vector<AbsentKey>& absent_keys() {
  static const std::string files =
      "metrics.jsonl is always written, tools/metrics_to_tensorboard.py makes event files of it";
  static const std::vector<AbsentKey> keys = {
      retired("job", "config_file",
              "the deck is the first argument, koios DECK [section/key=value]"),
      retired("job", "use_for_integration_test", "tests are run by ctest"),
      retired("metrics", "enable_tensorboard", files),
      retired("metrics", "save_tb_folder", files),
      retired("training", "compile", "all kernels are compiled when Koios is built; remove it"),
      retired("training", "gc_freq", "there is no garbage collector; remove it"),
  };
  return keys;
}

}  // namespace koios
