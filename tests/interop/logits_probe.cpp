// What the model makes of one sequence: log p(v | tokens 0..t) for every position t and token v, as
// lines of V numbers. Training never forms these for a test to see, but it tells the loss of any
// label: each is asked for in turn, with all other positions out of the count and a learning rate
// of zero.
//
//   logits_probe "1 5 7" section/key=value...   with model/vocab_size and
//   checkpoint/initial_load_path among them; any number of ranks
#include <cstdio>
#include <iostream>
#include <sstream>

#include "config/parse_run_config.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "runtime/device.hpp"
#include "runtime/mpi_env.hpp"
#include "train/initial_weights.hpp"
#include "train/step.hpp"

namespace koios {
namespace {

ParsedDeck read_deck(const std::vector<std::string>& overrides, std::int64_t seq_len) {
  ParsedDeck parsed = parse_run_config("", "probe", overrides);
  KOIOS_REQUIRE(parsed.errors.empty(), "bad overrides");
  RunConfig& config = parsed.config;
  config.training.seq_len = seq_len;
  config.training.batch_size = 1;
  config.training.mixed_precision_param = DType::float32;
  config.optimizer.lr = 0;
  return parsed;
}

Batch one_sequence(const std::vector<std::int32_t>& tokens) {
  Batch batch;
  batch.sequences = 1;
  batch.seq_len = static_cast<std::int64_t>(tokens.size());
  batch.tokens = tokens;
  batch.labels.assign(tokens.size(), -1);
  batch.index = make_embedding_index(tokens);
  return batch;
}

void probe(const std::vector<std::int32_t>& tokens, const std::vector<std::string>& overrides,
           const MpiEnv& mpi) {
  const ParsedDeck deck = read_deck(overrides, static_cast<std::int64_t>(tokens.size()));
  const RunConfig& config = deck.config;
  const std::int64_t vocab_size = config.model.vocab_size;
  const Backend backend = Backend::host;
  const DeviceEnv device(backend, mpi.local_rank());
  const MeshShape mesh_shape{{1, 1, mpi.size(), 1, 1}};
  const Mesh mesh(mpi, mesh_shape, backend, {});
  const TrainingShape shape = training_shape(config, mesh_shape, backend, vocab_size);
  TrainingParts<float> parts(shape, mpi.rank());
  load_initial_weights(config.checkpoint.initial_load_path.string(), deck.effective, vocab_size,
                       parts.layout, parts.memory.parameters.master, parts.streams.compute, mpi);
  TrainStep<float> step(config, shape, mesh, parts);
  StepResults results(backend, 1, 1);  // so the mean is the sum: one label counts

  Batch batch = one_sequence(tokens);
  for (std::int32_t& label : batch.labels) {
    for (std::int32_t v = 0; v < vocab_size; ++v) {
      label = v;
      step.run(
          0, [&] { return batch; }, results);
      const double loss = results.read().at(0).loss;
      if (mpi.rank() == 0) std::printf("%.9g%c", -loss, v + 1 < vocab_size ? ' ' : '\n');
    }
    label = -1;
  }
}

}  // namespace
}  // namespace koios

int main(int argc, char** argv) {
  const koios::MpiEnv mpi(argc, argv);
  koios::log::configure({.rank = mpi.rank(), .shown = false});
  try {
    KOIOS_REQUIRE(argc >= 2, "no tokens");
    std::istringstream text(argv[1]);
    std::vector<std::int32_t> tokens;
    for (std::int32_t token = 0; text >> token;) tokens.push_back(token);
    koios::probe(tokens, {argv + 2, argv + argc}, mpi);
  } catch (const std::exception& error) {
    std::cerr << "logits_probe: " << error.what() << '\n';
    koios::MpiEnv::abort(koios::ExitCode::failure);
  }
}
