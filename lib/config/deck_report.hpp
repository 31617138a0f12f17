// The two texts that a schema writes of itself.
#pragma once

#include <string>

#include "config/schema.hpp"

namespace koios {

/// The reference of all keys as Markdown: a table per section, then the keys that are absent.
std::string reference_table(const DeckSchema& schema);

/// A deck of all keys with their present values; comments say where each comes from. Read back, it
/// gives the same values.
std::string effective_deck(const DeckSchema& schema);

}  // namespace koios
