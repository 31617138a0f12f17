#include "config/deck.hpp"

#include <fmt/format.h>
#include <ini.h>

#include <map>
#include <optional>
#include <utility>

#include "core/error.hpp"
#include "core/utf8.hpp"

namespace koios {
namespace {

constexpr std::string_view kBlanks = " \t\r\n\v\f";

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

/// Where a comment starts: # or ; as the first character or after a blank.
std::size_t find_comment(std::string_view line) {
  for (std::size_t i = 0; i < line.size(); ++i) {
    const bool marker = line[i] == '#' || line[i] == ';';
    if (marker && (i == 0 || kBlanks.find(line[i - 1]) != std::string_view::npos)) return i;
  }
  return std::string_view::npos;
}

/// Of ASCII, and in UTF-8 those of the terminal's second set (U+0080 to U+009F).
bool has_control_character(std::string_view text) {
  unsigned char last = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7f) return true;
    if (last == 0xC2 && byte >= 0x80 && byte <= 0x9F) return true;
    last = byte;
  }
  return false;
}

bool is_quoted(std::string_view text) {
  return text.size() > 1 && text.front() == text.back() && (text[0] == '"' || text[0] == '\'');
}

struct KeyAndValue {
  std::string key;
  std::string value;
};

/// For messages, as much of a line as tells which it is.
std::string quoted(std::string_view line) {
  constexpr std::size_t kMost = 100;
  return cat('"', line.substr(0, kMost), line.size() > kMost ? "...\"" : "\"");
}

/// Characters of a line that Debian's inih takes; the rest of its buffer is for newline and NUL.
constexpr std::size_t kInihLine = 198;

/// What inih finds in a line; none where that is not "key = value".
std::optional<KeyAndValue> part_by_inih(const std::string& line) {
  std::optional<KeyAndValue> found;
  const auto take = [](void* result, const char*, const char* key, const char* value) {
    *static_cast<std::optional<KeyAndValue>*>(result) = KeyAndValue{key, value};
    return 1;
  };
  ini_parse_string(line.c_str(), take, &found);
  return found;
}

/// Whether the entry has a value_problem(), which is then among the deck's errors.
bool refuse(const DeckEntry& entry, Deck& deck) {
  const std::string reason = value_problem(entry.value);
  if (reason.empty()) return false;
  deck.errors.add({entry.origin, cat("[", entry.section, "] ", entry.key, ": ", reason)});
  deck.refused.push_back(entry);
  return true;
}

class DeckReader {
 public:
  DeckReader(std::string_view text, std::string name) : rest_(text), name_(std::move(name)) {
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
  }

  Deck parse() {
    while (!rest_.empty()) {
      const auto end = rest_.find('\n');
      const std::string_view raw = rest_.substr(0, end);
      rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
      ++line_;
      take_line(raw);
    }
    return std::move(deck_);
  }

 private:
  void take_line(std::string_view raw) {
    const std::string_view line = trim(raw.substr(0, find_comment(raw)));
    if (line.empty()) return;
    if (has_control_character(line)) {
      return fail("the line holds a control character; is this a deck?");
    }
    if (kBlanks.find(raw[0]) != std::string_view::npos) {
      fail(cat(quoted(line), " is indented; every line of a deck starts at its first column"));
    }
    if (line[0] == '[') return open_section(line);
    if (line.size() <= kInihLine) return take_entry(line, part_by_inih(std::string(line)));

    const auto separator = line.find_first_of("=:");
    if (separator >= kInihLine) {
      return fail(cat("the line has no \"=\" in its first ", kInihLine, " characters"));
    }
    auto entry = part_by_inih(std::string(line.substr(0, separator + 1)));
    if (entry) entry->value = trim(line.substr(separator + 1));
    take_entry(line, std::move(entry));
  }

  void open_section(std::string_view line) {
    section_.reset();
    before_first_header_ = false;
    if (line.find(']') != line.size() - 1) {
      return fail(cat(quoted(line), " is not a section header; expected [section]"));
    }
    section_ = trim(line.substr(1, line.size() - 2));
    deck_.sections.push_back({*section_, here()});
  }

  void take_entry(std::string_view line, std::optional<KeyAndValue> found) {
    if (!found) return fail(cat(quoted(line), " is not \"key = value\""));
    auto& [key, value] = *found;
    if (key.empty()) return fail("the key is missing before \"=\"");
    if (!section_) {  // after a header that is already reported, or before any
      if (before_first_header_) fail(cat("\"", key, "\" stands before the first [section]"));
      return;
    }
    const auto [known, is_new] = seen_.try_emplace({*section_, key}, line_);
    if (!is_new) {
      return fail(
          cat("[", *section_, "] ", key, " is given twice, first at ", name_, ":", known->second));
    }
    DeckEntry entry{*section_, std::move(key), std::move(value), here()};
    if (!refuse(entry, deck_)) deck_.entries.push_back(std::move(entry));
  }

  Origin here() const { return {Origin::Kind::file, cat(name_, ":", line_), line_}; }
  void fail(std::string message) { deck_.errors.add({here(), std::move(message)}); }

  std::string_view rest_;
  std::string name_;
  int line_ = 0;
  bool before_first_header_ = true;
  std::optional<std::string> section_;
  std::map<std::pair<std::string, std::string>, int> seen_;  // key to line
  Deck deck_;
};

}  // namespace

std::string value_problem(std::string_view value) {
  if (const auto bad = find_invalid_utf8(value); bad != std::string_view::npos) {
    return fmt::format(
        "byte {} of the value ({:#x}) is not UTF-8, so that it could not be saved with the run; "
        "convert the deck (iconv -f latin1 -t utf-8), or rename the file or folder if that is its "
        "name",
        bad + 1, static_cast<unsigned char>(value[bad]));
  }
  if (has_control_character(value)) return "the value holds a control character";
  if (is_quoted(value)) return cat("values stand without quotes, not as ", value);
  if (find_comment(cat(" ", value)) != std::string::npos) {
    return "the value holds \" #\" or \" ;\", which starts a comment in a deck";
  }
  return {};
}

Deck parse_deck(std::string_view text, const std::string& name) {
  return DeckReader(text, name).parse();
}

Deck parse_overrides(const std::vector<std::string>& overrides) {
  Deck deck;
  std::map<std::pair<std::string, std::string>, int> times;
  int position = 0;
  for (const std::string& text : overrides) {
    const Origin origin{Origin::Kind::command_line, "command line", ++position};
    const auto equals = text.find('=');
    const auto separator = text.find_first_of("/.");
    const bool has_form = equals != std::string::npos && separator < equals && separator > 0 &&
                          separator + 1 < equals;
    if (!has_form) {
      deck.errors.add({origin, cat("\"", text, "\" is not section/key=value")});
      continue;
    }
    const std::string_view view = text;
    DeckEntry entry{std::string(trim(view.substr(0, separator))),
                    std::string(trim(view.substr(separator + 1, equals - separator - 1))),
                    std::string(trim(view.substr(equals + 1))), origin};
    if (const int count = ++times[{entry.section, entry.key}]; count > 1) {
      entry.origin.text += cat(", the last of ", count, " times");
      std::erase_if(deck.entries, [&](const DeckEntry& earlier) {
        return earlier.section == entry.section && earlier.key == entry.key;
      });
    }
    deck.entries.push_back(std::move(entry));
  }
  std::erase_if(deck.entries, [&](const DeckEntry& entry) { return refuse(entry, deck); });
  return deck;
}

}  // namespace koios
