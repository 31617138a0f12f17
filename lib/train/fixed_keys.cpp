#include "train/fixed_keys.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <variant>

#include "config/values.hpp"
#include "core/error.hpp"

namespace koios {
namespace {

enum class Fixes { weights, run };  // what the parameters mean; or only how the run goes on

struct FixedKey {
  std::string_view name;
  Fixes fixes;
  std::string_view unsaid = "";  // what a file of weights that does not give the key means
};

/// A run that continues with another value of these would not be the same run: they fix the model,
/// the optimizer's state, or which samples come and what is learnt from them. Paths may move.
constexpr std::array<FixedKey, 19> kFixed = {{
    // the model
    {"model/name", Fixes::weights, "llama"},
    {"model/dim", Fixes::weights},
    {"model/n_layers", Fixes::weights},
    {"model/n_heads", Fixes::weights},
    {"model/n_kv_heads", Fixes::weights},
    {"model/ffn_dim", Fixes::weights},
    {"model/norm_type", Fixes::weights, "rmsnorm"},
    {"model/norm_eps", Fixes::weights},
    {"model/rope_theta", Fixes::weights},
    // the optimizer
    {"optimizer/name", Fixes::run},
    // the data
    {"job/seed", Fixes::run},
    {"training/dataset", Fixes::run},
    {"data/streams", Fixes::run},
    {"data/shuffle", Fixes::run},
    {"data/shuffle_window", Fixes::run},
    {"data/document_mask", Fixes::run},
    {"data/mixture", Fixes::run},
    {"data/add_bos", Fixes::run},
    {"data/add_eos", Fixes::run},
}};

const FixedKey* find_fixed(std::string_view name) {
  const auto* at = std::find_if(kFixed.begin(), kFixed.end(),
                                [&](const FixedKey& key) { return key.name == name; });
  return at == kFixed.end() ? nullptr : at;
}

/// Both ways of computing RMSNorm are one formula.
std::string_view formula_of(std::string_view norm) {
  return norm == "fused_rmsnorm" ? "rmsnorm" : norm;
}

/// Other programs write numbers their way, and leave out what goes without saying.
bool is_same_function(const FixedKey& key, const DeckDifference& difference) {
  const std::string_view saved =
      difference.saved == kNotGiven && !key.unsaid.empty() ? key.unsaid : difference.saved;
  if (formula_of(saved) == formula_of(difference.current)) return true;
  double there = 0;
  double here = 0;
  return parse_value(saved, there).empty() && parse_value(difference.current, here).empty() &&
         std::abs(there - here) <= 1e-6 * std::abs(here);
}

/// The tokenizer's size where the deck says 0, so that decks alone would not tell.
void compare_vocabulary(const CheckpointHead& head, std::int64_t vocab_size,
                        std::vector<DeckDifference>& differences) {
  const auto at = head.root.find("vocab_size");
  const auto* saved = at == head.root.end() ? nullptr : std::get_if<std::int64_t>(&at->second);
  if (saved != nullptr && *saved == vocab_size) return;
  differences.push_back(
      {"the vocabulary", saved == nullptr ? std::string(kNotGiven) : cat(*saved), cat(vocab_size)});
}

}  // namespace

RunDifferences compare_run(const CheckpointHead& head, const std::string& effective_deck,
                           std::int64_t vocab_size) {
  RunDifferences found;
  for (DeckDifference& d : compare_decks(head.text("deck"), effective_deck)) {
    (find_fixed(d.key) != nullptr ? found.fixed : found.free).push_back(std::move(d));
  }
  compare_vocabulary(head, vocab_size, found.fixed);
  return found;
}

std::vector<DeckDifference> compare_weights(const CheckpointHead& head,
                                            const std::string& effective_deck,
                                            std::int64_t vocab_size) {
  std::vector<DeckDifference> found;
  for (DeckDifference& d : compare_decks(head.text("deck"), effective_deck)) {
    const FixedKey* key = find_fixed(d.key);
    if (key == nullptr || key->fixes != Fixes::weights || is_same_function(*key, d)) continue;
    found.push_back(std::move(d));
  }
  compare_vocabulary(head, vocab_size, found);
  return found;
}

}  // namespace koios
