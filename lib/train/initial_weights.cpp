#include "train/initial_weights.hpp"

#include <charconv>
#include <cmath>
#include <string_view>

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

/// What the file's deck gives a key of [model]; empty where it gives nothing.
std::string value_in(const Deck& deck, const std::string& key) {
  for (const DeckEntry& entry : deck.entries) {
    if (entry.section == "model" && entry.key == key) return entry.value;
  }
  return "";
}

/// NaN where it is no number.
double number_in(const Deck& deck, const std::string& key) {
  const std::string text = value_in(deck, key);
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stopped == end ? value : std::nan("");
}

/// Both ways of computing RMSNorm are one formula.
std::string_view formula_of(Norm type) {
  switch (type) {
    case Norm::rmsnorm:
    case Norm::fused_rmsnorm:
      return "rmsnorm";
    case Norm::layernorm:
      return "layernorm";
    case Norm::np_layernorm:
      return "np_layernorm";
  }
  KOIOS_REQUIRE(false, "unknown norm");
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
  // Files from other programs say only what these may differ in: RMSNorm goes without saying.
  const std::string_view norm_here = formula_of(model.norm_type);
  std::string norm_there = value_in(deck, "norm_type");
  if (norm_there.empty() || norm_there == "fused_rmsnorm") norm_there = "rmsnorm";
  if (norm_there != norm_here) {
    text +=
        cat(text.empty() ? "" : "; ", "norm_type is ", norm_there, " there, ", norm_here, " here");
  }
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
