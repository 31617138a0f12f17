#include "train/initial_weights.hpp"

#include "checkpoint/checkpoint_reader.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "core/readable.hpp"
#include "core/stopwatch.hpp"
#include "train/device_access.hpp"
#include "train/fixed_keys.hpp"
#include "train/run_state.hpp"
#include "train/saved_parameters.hpp"

namespace koios {
namespace {

std::string differences(const CheckpointHead& head, const std::string& effective_deck,
                        std::int64_t vocab_size) {
  std::string text;
  for (const DeckDifference& d : compare_weights(head, effective_deck, vocab_size)) {
    text += cat(text.empty() ? "" : "; ", d.key, " is ", d.saved, " there, ", d.current, " here");
  }
  return text;
}

}  // namespace

void load_initial_weights(const std::string& path, const std::string& effective_deck,
                          std::int64_t vocab_size, const ShardLayout& layout, Ref<float, 1> masters,
                          Stream& stream, const RankGroup& ranks) {
  const Stopwatch watch;
  try {
    const CheckpointReader reader(ranks, path);
    const bool is_weights_only = kind_of(reader.head()) == "weights";
    const std::string different = differences(reader.head(), effective_deck, vocab_size);
    if (!different.empty()) throw UserError(cat("it is of another model: ", different));
    const auto access = make_host_access(stream);
    reader.read(
        saved_parameters(layout, is_weights_only ? "" : "model/", DType::float32, any(masters)),
        *access);
  } catch (const UserError& error) {
    throw UserError(cat("[checkpoint] initial_load_path = ", path, ": ", error.what()));
  }
  log::info("weights from ", path, ", loaded in ", duration(watch.seconds()),
            "; the optimizer and the data start anew");
}

}  // namespace koios
