// Whether the data keeps up with the GPUs: each rank reads its batches as in training, and instead
// of computing waits as long as a step would take.
//   mpirun -np 8 bench_data MODEL FORMAT PATH [streams=16] [steps=20] [tokens_per_s=14000]
// One rank stands for one GPU, with 2 sequences of 4,096 tokens a step. Prints the part of the time
// that the slowest rank waited for data after its first step, and the rate without any pauses.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "core/stopwatch.hpp"
#include "data/data_loader.hpp"
#include "runtime/mpi_env.hpp"

namespace {

using namespace koios;

constexpr const char* kUsage = "usage: bench_data MODEL FORMAT PATH [STREAMS [STEPS [RATE]]]";

std::int64_t argument(int argc, char** argv, int at, std::int64_t otherwise) {
  const std::int64_t value = argc > at ? std::atoll(argv[at]) : otherwise;
  if (value < 1) throw UserError(kUsage);
  return value;
}

DataFormat format_named(std::string_view name) {
  const auto& formats = record_formats();
  const auto found = std::ranges::find(formats, name, &RecordFormat::name);
  if (found == formats.end()) throw UserError(cat(kUsage, "; ", name, " is no FORMAT"));
  return found->format;
}

double largest(const MpiEnv& mpi, double value) {
  double result = value;
  for (const std::string& text : mpi.all_gather(cat(value))) {
    result = std::max(result, std::stod(text));
  }
  return result;
}

void run(int argc, char** argv, const MpiEnv& mpi) {
  if (argc < 4) throw UserError(kUsage);
  const auto tokenizer = load_sentencepiece(argv[1]);
  DataOptions options;
  options.format = format_named(argv[2]);
  options.path = argv[3];
  options.seq_len = 4096;
  options.batch_size = 2;
  options.streams = argument(argc, argv, 4, 16);
  const std::int64_t steps = argument(argc, argv, 5, 20);
  const double tokens = 4096 * 2;
  const double step_s = tokens / static_cast<double>(argument(argc, argv, 6, 14000));

  DataLoader loader(options, *tokenizer, mpi.rank(), mpi.size());
  const Stopwatch start;
  loader.next();
  const double first_s = largest(mpi, start.seconds());
  const double waited_before = loader.wait_seconds();
  const Stopwatch paced;
  for (std::int64_t step = 0; step < steps; ++step) {
    std::this_thread::sleep_for(std::chrono::duration<double>(step_s));
    loader.next();
  }
  const double waited = largest(mpi, (loader.wait_seconds() - waited_before) / paced.seconds());
  mpi.all_gather("");
  const Stopwatch unpaced;
  for (std::int64_t step = 0; step < steps; ++step) loader.next();
  const double unpaced_s = largest(mpi, unpaced.seconds());
  if (mpi.rank() == 0) {
    std::cout << mpi.size() << " ranks: first batch after " << first_s << " s; then waited "
              << 100 * waited << "% of the time at " << tokens / step_s * mpi.size()
              << " tokens/s; without pauses "
              << tokens * static_cast<double>(steps) * mpi.size() / unpaced_s << " tokens/s\n";
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const MpiEnv mpi(argc, argv);
    run(argc, argv, mpi);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
  }
  MpiEnv::abort(ExitCode::failure);
}
