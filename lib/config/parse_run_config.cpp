#include "config/parse_run_config.hpp"

#include <utility>

#include "config/deck_report.hpp"
#include "config/model_flavors.hpp"
#include "config/run_schema.hpp"

namespace koios {

namespace {

/// Sizes that the deck leaves at 0 come from the flavor, and the feed-forward's from its rule.
void resolve_sizes(ModelConfig& model, const DeckSchema& schema) {
  const auto fill = [&](const char* key, auto& size, auto value, const std::string& source) {
    if (size != 0) return;
    size = value;
    schema.find("model", key)->origin = {Origin::Kind::derived, source, 0};
  };
  const ModelFlavor* flavor = find_flavor(model.flavor);
  KOIOS_REQUIRE(flavor != nullptr, "flavor ", model.flavor);
  const std::string source = cat("flavor ", flavor->name);
  fill("dim", model.dim, flavor->dim, source);
  fill("n_layers", model.n_layers, flavor->n_layers, source);
  fill("n_heads", model.n_heads, flavor->n_heads, source);
  fill("n_kv_heads", model.n_kv_heads, flavor->n_kv_heads != 0 ? flavor->n_kv_heads : model.n_heads,
       source);
  fill("multiple_of", model.multiple_of, flavor->multiple_of, source);
  fill("ffn_dim_multiplier", model.ffn_dim_multiplier, flavor->ffn_dim_multiplier, source);
  fill("ffn_dim", model.ffn_dim,
       ffn_hidden_dim(model.dim, model.multiple_of, model.ffn_dim_multiplier),
       "dim, ffn_dim_multiplier and multiple_of");
}

}  // namespace

bool is_given(const ParsedDeck& parsed, const std::string& key) {
  const Origin::Kind kind = parsed.keys.at(key).origin.kind;
  return kind == Origin::Kind::file || kind == Origin::Kind::command_line;
}

Origin place_of(const ParsedDeck& parsed, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    if (is_given(parsed, key)) return parsed.keys.at(key).origin;
  }
  return {Origin::Kind::default_value, cat("default of ", keys.front()), 0};
}

DeckError locate(const ParsedDeck& parsed, const DeckValueError& error) {
  return {place_of(parsed, error.keys()), error.what()};
}

ParsedDeck parse_run_config(std::string_view text, const std::string& name,
                            const std::vector<std::string>& overrides,
                            const Environment& environment) {
  ParsedDeck parsed;
  DeckSchema schema = make_run_schema(parsed.config);
  const Deck file = parse_deck(text, name);
  const Deck command_line = parse_overrides(overrides);
  const DeckErrors applied = schema.apply(file, command_line, environment);
  parsed.errors = merge({&file.errors, &command_line.errors, &applied}, name);

  resolve_sizes(parsed.config.model, schema);
  parsed.effective = effective_deck(schema);
  for (const auto& option : schema.options()) {
    parsed.keys[cat(option->section(), "/", option->key())] = {
        option->origin, option->failed, option->show() == option->default_text()};
  }
  return parsed;
}

std::string help_deck() {
  RunConfig config;
  return reference_table(make_run_schema(config));
}

}  // namespace koios
