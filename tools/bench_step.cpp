// Where a training step's time goes, part by part, beside what the machine allows: the real step
// with its regions recorded, on random tokens.
//   mpirun -np RANKS bench_step [section/key=value ...]
// The keys are those of a deck, for example model/flavor=7B training/batch_size=2
// training/seq_len=4096 activation_checkpoint/mode=none; model/vocab_size is 32000 unless given.
// Rounds are whole steps, so a GPU is as warm, and its power as short, as in training; the medians
// over the later half count. A part's limit: its bytes over the rate of the best part that memory
// bounds, its operations over the best product's rate.
#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "config/parse_run_config.hpp"
#include "core/error.hpp"
#include "core/integers.hpp"
#include "core/log.hpp"
#include "core/random.hpp"
#include "core/stopwatch.hpp"
#include "data/embedding_index.hpp"
#include "runtime/device.hpp"
#include "runtime/mpi_env.hpp"
#include "runtime/region.hpp"
#include "shard/parameters.hpp"
#include "train/attention_choice.hpp"
#include "train/deck_options.hpp"
#include "train/step.hpp"

namespace koios {
namespace {

constexpr double kSeconds = 12;
constexpr std::size_t kFewestRounds = 4;

/// Tokens with shares like 1 / (k + 1), as in text; documents, which show with data/document_mask,
/// of about 500 tokens.
Batch random_batch(const TrainingShape& shape, std::int64_t number) {
  Batch batch;
  batch.sequences = shape.micro_batch.batch_size;
  batch.seq_len = shape.micro_batch.seq_len;
  for (std::int64_t n = 0; n <= shape.micro_batch.tokens(); ++n) {
    const Philox4 bits =
        philox(1, static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(number));
    const double u = uniform_open(bits.word[0], bits.word[1]);
    const double drawn = std::pow(static_cast<double>(shape.model.vocab_size), u);
    batch.tokens.push_back(static_cast<std::int32_t>(drawn) - 1);
  }
  batch.labels.assign(batch.tokens.begin() + 1, batch.tokens.end());
  batch.tokens.pop_back();
  std::int64_t begin = 0;
  for (std::int64_t n = 0; n < std::ssize(batch.tokens); ++n) {
    const std::int64_t position = n % batch.seq_len;
    const Philox4 bits =
        philox(2, static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(number));
    if (position == 0 || bits.word[0] % 500 == 0) begin = position;
    batch.document_start.push_back(narrow<std::int32_t>(begin));
  }
  batch.index = make_embedding_index(batch.tokens);
  return batch;
}

double median_of_later_half(std::vector<double> all) {
  std::vector<double> late(all.begin() + std::ssize(all) / 2, all.end());
  std::nth_element(late.begin(), late.begin() + std::ssize(late) / 2, late.end());
  return late[late.size() / 2];
}

/// What was recorded of the regions of one lane and name.
struct Part {
  std::vector<double> seconds;  // of each round
  Work work;                    // of one round
  int calls = 0;
};
using Parts = std::map<std::pair<std::string, std::string>, Part>;

std::string name_of(const Trace::Span& span) {
  const auto [rows, columns, summands] = span.work.extents;
  return rows == 0 ? span.name : cat(span.name, " ", rows, "x", columns, "x", summands);
}

void add_round(Parts& parts, const Trace& trace, std::size_t round) {
  for (auto& [name, part] : parts) part = {part.seconds, {}, 0};
  for (const Trace::Span& span : trace.spans()) {
    Part& part = parts[{span.lane, name_of(span)}];
    part.seconds.resize(round + 1);
    part.seconds[round] += span.seconds();
    part.work.flops += span.work.flops;
    part.work.bytes += span.work.bytes;
    ++part.calls;
  }
}

void report(const Parts& parts, double step_s) {
  double best_flops = 0;
  double best_bytes = 0;
  for (const auto& [name, part] : parts) {
    if (name.first != "compute") continue;
    const double seconds = median_of_later_half(part.seconds);
    best_flops = std::max(best_flops, part.work.flops / seconds);
    if (part.work.flops == 0) best_bytes = std::max(best_bytes, part.work.bytes / seconds);
  }
  std::printf("%-8s %-34s %6s %10s %9s %6s %10s %7s\n", "lane", "part", "calls", "ms/call",
              "ms/step", "%", "rate", "of best");
  for (const auto& [name, part] : parts) {
    const double seconds = median_of_later_half(part.seconds);
    const bool is_product = part.work.flops > 0;
    const double rate = (is_product ? part.work.flops : part.work.bytes) / seconds;
    const double best = is_product ? best_flops : best_bytes;
    std::printf("%-8s %-34s %6d %10.4f %9.3f %6.2f", name.first.c_str(), name.second.c_str(),
                part.calls, 1e3 * seconds / part.calls, 1e3 * seconds, 100 * seconds / step_s);
    if (rate > 0) {
      std::printf(" %6.1f %s %6.1f%%", rate * (is_product ? 1e-12 : 1e-9),
                  is_product ? "TF/s" : "GB/s", 100 * rate / best);
    }
    std::printf("\n");
  }
  std::printf("%-36s %20.3f ms\n", "the step, by the wall clock", 1e3 * step_s);
}

template <class T>
void bench(const RunConfig& config, const TrainingShape& shape, const MpiEnv& mpi) {
  const Mesh mesh(mpi, shape.mesh, shape.backend, comm_options(config));
  TrainingParts<T> rank(shape, mpi.rank());
  TrainingStreams& streams = rank.streams;
  initialize_parameters(streams.compute, rank.layout, rank.memory.parameters.master, 1);
  TrainStep<T> step(config, shape, mesh, rank);
  if (const std::string how = mesh.share_memory(rank.arena.memory()); !how.empty()) log::info(how);
  StepResults results(shape.backend, 1, shape.micro_batch.tokens() * shape.reduce.micro_batches);
  const Batch batch = random_batch(shape, mpi.rank());
  const auto take_step = [&] {
    const Stopwatch watch;
    step.run(
        0, [&] { return batch; }, results);
    results.read();
    return watch.seconds();
  };
  take_step();  // chooses algorithms, touches memory
  std::vector<double> plain;
  for (double total = 0; total < kSeconds / 3 || plain.size() < kFewestRounds;) {
    plain.push_back(take_step());
    MPI_Bcast(&plain.back(), 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);  // all take equally many
    total += plain.back();
  }
  Trace trace(shape.backend);
  for (Stream* s : {&streams.compute, &streams.gather, &streams.reduce}) s->set_trace(&trace);
  Parts parts;
  std::vector<double> rounds;
  for (double total = 0; total < kSeconds || rounds.size() < kFewestRounds;) {
    trace.restart(streams.compute);
    rounds.push_back(take_step());
    for (Stream* s : {&streams.gather, &streams.reduce}) s->synchronize();
    add_round(parts, trace, rounds.size() - 1);
    MPI_Bcast(&rounds.back(), 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    total += rounds.back();
  }
  if (mpi.rank() == 0) {
    report(parts, median_of_later_half(rounds));
    std::printf("%-36s %20.3f ms\n", "without recording", 1e3 * median_of_later_half(plain));
  }
  mesh.share_memory({});
}

void run(const MpiEnv& mpi, const std::vector<std::string>& overrides) {
  std::vector<std::string> keys = {"model/vocab_size=32000"};
  keys.insert(keys.end(), overrides.begin(), overrides.end());
  const ParsedDeck parsed = parse_run_config("", "bench_step", keys);
  for (const auto& error : parsed.errors) std::fprintf(stderr, "%s\n", error.message.c_str());
  if (!parsed.errors.empty()) throw UserError("usage: bench_step [section/key=value ...]");
  const RunConfig& config = parsed.config;
  const bool use_gpu = config.job.backend != BackendChoice::host && count_gpus() > 0;
  const DeviceEnv device(use_gpu ? Backend::cuda : Backend::host, mpi.local_rank());
  const int tp = static_cast<int>(config.parallel.tensor_parallel);
  const MeshShape mesh{{1, 1, mpi.size() / tp, 1, tp}};
  TrainingShape shape = training_shape(config, mesh, device.backend(), config.model.vocab_size);
  choose_attention(shape, mpi);
  if (mpi.rank() == 0) {
    std::printf("%s, %s, batch %lld x %lld, %s\n", device.info().name.c_str(),
                config.model.flavor.c_str(), static_cast<long long>(shape.micro_batch.batch_size),
                static_cast<long long>(shape.micro_batch.seq_len), mesh.describe().c_str());
  }
  shape.compute == DType::bfloat16 ? bench<bf16>(config, shape, mpi)
                                   : bench<float>(config, shape, mpi);
}

}  // namespace
}  // namespace koios

int main(int argc, char** argv) {
  const koios::MpiEnv mpi(argc, argv);
  koios::log::configure({.rank = mpi.rank(), .shown = mpi.rank() == 0});
  try {
    koios::run(mpi, {argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    koios::MpiEnv::abort(koios::ExitCode::failure);
  }
}
