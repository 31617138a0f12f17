#include "config/deck_report.hpp"

namespace koios {
namespace {

/// `text` as inline code; an empty value as the word.
std::string code(const std::string& text) { return text.empty() ? "(empty)" : cat("`", text, "`"); }

}  // namespace

std::string reference_table(const DeckSchema& schema) {
  std::string text;
  std::string section;
  for (const auto& option : schema.options()) {
    if (option->section() != section) {
      section = option->section();
      text += cat(text.empty() ? "" : "\n", "### [", section, "]\n\n",
                  "| key | value | unit | default | meaning |\n| --- | --- | --- | --- | --- |\n");
    }
    text += cat("| `", option->key(), "` | ", option->allowed(), " | ", option->unit(), " | ",
                code(option->default_text()), " | ", option->help(), " |\n");
  }
  text += "\n### Keys that this version refuses\n\n";
  for (const AbsentKey& key : schema.absent()) {
    text += cat("- `", key.section, "/", key.key, "` ", key.reason, "\n");
  }
  return text;
}

std::string effective_deck(const DeckSchema& schema) {
  std::string text = "# The deck in force: every key, and where its value comes from.\n";
  std::string section;
  for (const auto& option : schema.options()) {
    if (option->section() != section) {
      section = option->section();
      text += cat("\n[", section, "]\n");
    }
    const std::string value = option->show();
    text +=
        cat(option->key(), value.empty() ? " =" : " = ", value, "  # ", option->origin.text, "\n");
  }
  return text;
}

}  // namespace koios
