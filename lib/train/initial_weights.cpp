#include "train/initial_weights.hpp"

#include <charconv>
#include <cmath>

#include "checkpoint/checkpoint_reader.hpp"
#include "config/deck.hpp"
#include "core/error.hpp"
#include "core/log.hpp"
#include "core/stopwatch.hpp"
#include "train/device_access.hpp"
#include "train/run_state.hpp"
#include "train/saved_parameters.hpp"

namespace koios {
namespace {

/// The number that the file's deck gives a key of [model]; NaN where it gives none.
double number_in(const Deck& deck, const std::string& key) {
  for (const DeckEntry& entry : deck.entries) {
    if (entry.section != "model" || entry.key != key) continue;
    double value = 0;
    const char* end = entry.value.data() + entry.value.size();
    const auto [stopped, error] = std::from_chars(entry.value.data(), end, value);
    if (error == std::errc() && stopped == end) return value;
  }
  return std::nan("");
}

/// What makes the file's model another one than the deck's. Shapes alone would not tell: heads of
/// another width are the same matrices.
std::string differences(const CheckpointHead& head, const ModelConfig& model,
                        std::int64_t vocab_size) {
  const Deck deck = parse_deck(head.text("deck"), "deck");
  const auto vocabulary = head.root.find("vocab_size");
  const auto* vocab_there =
      vocabulary == head.root.end() ? nullptr : std::get_if<std::int64_t>(&vocabulary->second);
  std::string text;
  const auto compare = [&](const std::string& key, double there, double here) {
    if (std::abs(there - here) <= 1e-6 * std::abs(here)) return;
    text += cat(text.empty() ? "" : "; ", key, " is ", std::isnan(there) ? "not given" : cat(there),
                " there, ", here, " here");
  };
  for (const auto& [key, here] : {std::pair("dim", model.dim),
                                  {"n_layers", model.n_layers},
                                  {"n_heads", model.n_heads},
                                  {"n_kv_heads", model.n_kv_heads},
                                  {"ffn_dim", model.ffn_dim}}) {
    compare(key, number_in(deck, key), static_cast<double>(here));
  }
  compare("vocab_size", vocab_there != nullptr ? static_cast<double>(*vocab_there) : std::nan(""),
          static_cast<double>(vocab_size));
  compare("norm_eps", number_in(deck, "norm_eps"), model.norm_eps);
  compare("rope_theta", number_in(deck, "rope_theta"), model.rope_theta);
  return text;
}

}  // namespace

void load_initial_weights(const RunConfig& config, std::int64_t vocab_size,
                          const ShardLayout& layout, Ref<float, 1> masters, Stream& stream) {
  const std::string path = config.checkpoint.initial_load_path.string();
  const Stopwatch watch;
  try {
    const CheckpointRanks ranks;
    const CheckpointReader reader(ranks, path);
    const bool is_weights_only = kind_of(reader.head()) == "weights";
    const std::string different = differences(reader.head(), config.model, vocab_size);
    if (!different.empty()) throw UserError(cat("it is of another model: ", different));
    const auto access = make_host_access(stream);
    reader.read(
        saved_parameters(layout, is_weights_only ? "" : "model/", FileType::float32, masters),
        *access);
  } catch (const UserError& error) {
    throw UserError(cat("[checkpoint] initial_load_path = ", path, ": ", error.what()));
  }
  log::info("weights from ", path, ", loaded in ", watch.seconds(),
            " s; the optimizer and the data start anew");
}

}  // namespace koios
