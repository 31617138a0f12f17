#include "app/command_line.hpp"

#include "app/arguments.hpp"
#include "app/failure.hpp"
#include "config/values.hpp"

namespace koios {
namespace {

template <class T>
T positive(const std::string& option, const std::string& text) {
  T value = 0;
  if (!parse_value(text, value).empty() || value <= 0) {
    const char* what = std::is_integral_v<T> ? "a whole number from 1 on" : "a number above 0";
    throw CommandLineError(cat(option, " takes ", what, ", not '", text, "'"));
  }
  return value;
}

int ranks_named(const std::string& text) {
  const int ranks = positive<int>("--ranks", text);
  if (ranks > kMostPlannedRanks)
    throw CommandLineError(cat("--ranks ", text, ": the most is ", kMostPlannedRanks));
  return ranks;
}

Backend backend_named(const std::string& text) {
  for (const Backend backend : {Backend::host, Backend::cuda}) {
    if (text == to_string(backend)) return backend;
  }
  throw CommandLineError(cat("--backend takes host or cuda, not '", text, "'"));
}

GpuMemory gpu_named(const std::string& text) {
  const auto gpu = gpu_memory(text);
  if (!gpu) throw CommandLineError(cat("--gpu takes h100, h200, a100 or GiB, not '", text, "'"));
  return *gpu;
}

/// What was given that the task does not take.
void require_task_of_options(const CommandLine& line) {
  const PredictionOptions& p = line.prediction;
  const bool plans = line.task == Task::dry_run || line.task == Task::suggest;
  if (!plans && (line.ranks || line.backend || line.gpu)) {
    throw CommandLineError(
        "--ranks, --backend and --gpu belong to --dry-run and --suggest; a run takes its ranks "
        "from mpirun or srun and its backend from job/backend");
  }
  if (line.gpu && line.backend == Backend::host) {
    throw CommandLineError("--gpu asks for a plan of --backend cuda, not of host");
  }
  const bool predicts = plans && (line.gpu || p.rates_file);
  if (!predicts && (p.rates_file || p.ranks_of_node || p.between_nodes_gbs || p.tokens)) {
    throw CommandLineError(
        "--rates, --node, --between-nodes and --tokens belong to a prediction: --dry-run or "
        "--suggest with --gpu or --rates");
  }
  if (line.task != Task::suggest && p.sequences) {
    throw CommandLineError("--sequences belongs to --suggest; elsewhere the deck says it");
  }
  if (line.task == Task::suggest && (!line.ranks || !line.gpu)) {
    throw CommandLineError("--suggest needs --ranks N, how many GPUs, and --gpu, which");
  }
}

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& arguments) {
  CommandLine line;
  PredictionOptions& p = line.prediction;
  std::string asked;  // the option that says what to do
  const auto task = [&](const std::string& name, Task what) -> ProgramOption {
    return {name, [&, name, what] {
              if (line.task == Task::help) return;
              if (what != Task::help && !asked.empty() && asked != name) {
                throw CommandLineError(cat(asked, " and ", name, ": give one of them"));
              }
              line.task = what;
              asked = name;
            }};
  };
  std::vector<std::string> walltime;
  DeckArguments deck = parse_arguments(
      "koios", arguments,
      {task("--help", Task::help),
       task("-h", Task::help),
       task("--help-deck", Task::help_deck),
       task("--version", Task::version),
       task("--dry-run", Task::dry_run),
       task("--suggest", Task::suggest),
       task("--self-test", Task::self_test),
       {"-t", {}, [&](const auto& time) { walltime = {cat("job/walltime=", time)}; }},
       {"--ranks", {}, [&](const auto& text) { line.ranks = ranks_named(text); }},
       {"--backend", {}, [&](const auto& text) { line.backend = backend_named(text); }},
       {"--gpu", {}, [&](const auto& text) { line.gpu = gpu_named(text); }},
       {"--rates", {}, [&](const auto& text) { p.rates_file = text; }},
       {"--node", {}, [&](const auto& text) { p.ranks_of_node = positive<int>("--node", text); }},
       {"--between-nodes",
        {},
        [&](const auto& text) { p.between_nodes_gbs = positive<double>("--between-nodes", text); }},
       {"--tokens", {}, [&](const auto& text) { p.tokens = positive<double>("--tokens", text); }},
       {"--sequences", {}, [&](const auto& text) {
          p.sequences = positive<int>("--sequences", text);
        }}});
  line.deck = std::move(deck.deck);
  line.overrides = std::move(deck.overrides);
  line.overrides.insert(line.overrides.end(), walltime.begin(), walltime.end());
  require_task_of_options(line);
  return line;
}

std::string usage() {
  const std::string text =
      "koios trains Llama 2 models from scratch.\n"
      "\n"
      "  mpirun -np N koios [DECK] [section/key=value ...]   train\n"
      "  koios [DECK] [section/key=value ...] --dry-run [--ranks N] [--backend host|cuda]\n"
      "        [--gpu h100|h200|a100|GiB]     the deck in force, mesh, memory and traffic; no\n"
      "                                       training. N: else as many as mpirun or srun\n"
      "                                       starts. --gpu: whether it fits such a GPU (exit\n"
      "                                       code 1 if not), and what would make it fit; h100,\n"
      "                                       h200: how fast it would be\n"
      "        [--rates FILE] [--node RANKS] [--between-nodes GB/S] [--tokens N]\n"
      "                                       rates of another machine, as --self-test writes\n"
      "                                       them; ranks of a node (8), the link of each to\n"
      "                                       other nodes, tokens of the whole run\n"
      "                                       (docs/planning.md)\n"
      "  koios [DECK] [section/key=value ...] --suggest --ranks N --gpu h100|h200 [--sequences G]\n"
      "                                       the fastest meshes for the deck's model on N GPUs,\n"
      "                                       by the plan, with the overrides to paste; G\n"
      "                                       sequences a step\n"
      "  mpirun -np N koios [DECK] [section/key=value ...] --self-test\n"
      "                                       measures what each rank and each axis of the mesh is "
      "given,\n"
      "                                       and names ranks that differ (exit code 1 if any "
      "does)\n"
      "  koios --help-deck                    every key with its default and meaning "
      "(Markdown)\n"
      "  koios --version                      versions of koios and its libraries\n"
      "  koios --help                         this text\n"
      "\n"
      "Without a deck the defaults run; - is a deck on standard input. An override may also be\n"
      "written section.key=value; of a key that is given several times the last one counts.\n"
      "-t TIME is job/walltime=TIME: saves and stops before that (minutes, MM:SS, HH:MM:SS,\n"
      "D-HH:MM:SS).\n"
      "Paths are relative to the working directory.\n"
      "\n";
  return text + exit_code_table();
}

}  // namespace koios
