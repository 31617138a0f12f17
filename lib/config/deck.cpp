#include "config/deck.hpp"

#include <ini.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "core/error.hpp"

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

bool has_control_character(std::string_view text) {
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) return true;
  }
  return false;
}

bool is_quoted(std::string_view text) {
  return text.size() > 1 && text.front() == text.back() && (text[0] == '"' || text[0] == '\'');
}

/// Why no deck can hold the value, or not as it is meant; empty where all is well.
std::string why_refused(const DeckEntry& entry) {
  if (has_control_character(entry.value)) return "the value holds a control character";
  if (is_quoted(entry.value)) return cat("values stand without quotes, not as ", entry.value);
  if (find_comment(" " + entry.value) != std::string::npos) {
    return "the value holds \" #\" or \" ;\", which starts a comment in a deck";
  }
  return {};
}

/// Feeds inih line by line and takes its entries; what inih would misread never reaches it.
class DeckReader {
 public:
  DeckReader(std::string_view text, std::string name) : rest_(text), name_(std::move(name)) {
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);
  }

  Deck parse() {
    // inih's own result is the line of its first error; all of them are noticed here.
    ini_parse_stream(&DeckReader::on_read, this, &DeckReader::on_entry, this);
    return std::move(deck_);
  }

 private:
  static char* on_read(char* buffer, int size, void* self) {
    return static_cast<DeckReader*>(self)->read(buffer, size);
  }
  static int on_entry(void* self, const char*, const char* key, const char* value) {
    static_cast<DeckReader*>(self)->take(key, value);
    return 1;
  }

  /// The next line for inih, cleaned; an unusable line becomes an empty one.
  char* read(char* buffer, int size) {
    report_if_not_taken();
    if (rest_.empty()) return nullptr;
    const auto end = rest_.find('\n');
    const std::string_view raw = rest_.substr(0, end);
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    ++line_;

    std::string clean(cleaned(raw));
    const auto room = static_cast<std::size_t>(size) - 2;  // for newline and NUL
    if (clean.size() > room) {
      const auto separator = clean.find_first_of("=:");
      if (separator >= room) {
        fail(cat("the line has no \"=\" in its first ", room, " characters"));
        clean.clear();
      } else {
        long_value_ = trim(std::string_view(clean).substr(separator + 1));
        clean.resize(separator + 1);
      }
    }
    waiting_for_ = clean.starts_with('[') ? std::string() : clean;
    clean += '\n';
    std::memcpy(buffer, clean.c_str(), clean.size() + 1);
    return buffer;
  }

  /// The line without comment and blanks at its ends; empty where it is wrong.
  std::string_view cleaned(std::string_view raw) {
    const std::string_view line = trim(raw.substr(0, find_comment(raw)));
    if (line.empty()) return {};
    if (has_control_character(line)) {
      fail("the line holds a control character; is this a deck?");
      return {};
    }
    if (kBlanks.find(raw[0]) != std::string_view::npos) {
      fail(cat("\"", line, "\" is indented; every line of a deck starts at its first column"));
    }
    if (line[0] == '[' && !open_section(line)) return {};
    return line;
  }

  bool open_section(std::string_view line) {
    section_.reset();
    before_first_header_ = false;
    if (line.find(']') != line.size() - 1) {
      fail(cat("\"", line, "\" is not a section header; expected [section]"));
      return false;
    }
    section_ = trim(line.substr(1, line.size() - 2));
    deck_.sections.push_back({*section_, here()});
    return true;
  }

  void take(std::string key, std::string value) {
    waiting_for_.clear();
    if (long_value_) value = *std::exchange(long_value_, std::nullopt);
    if (key.empty()) return fail("the key is missing before \"=\"");
    if (!section_) {  // after a header that is already reported, or before any
      if (before_first_header_) fail(cat("\"", key, "\" stands before the first [section]"));
      return;
    }
    const auto [known, is_new] = seen_.try_emplace({*section_, key}, here());
    if (!is_new) {
      return fail(cat("[", *section_, "] ", key, " is given twice, first at ", known->second.text));
    }
    DeckEntry entry{*section_, std::move(key), std::move(value), here()};
    if (const std::string reason = why_refused(entry); !reason.empty()) {
      return fail(cat("[", entry.section, "] ", entry.key, ": ", reason));
    }
    deck_.entries.push_back(std::move(entry));
  }

  /// inih had a line for us and found no entry in it.
  void report_if_not_taken() {
    if (!waiting_for_.empty()) fail(cat("\"", waiting_for_, "\" is not \"key = value\""));
    waiting_for_.clear();
  }

  Origin here() const { return {Origin::Kind::file, cat(name_, ":", line_), line_}; }
  void fail(std::string message) { deck_.errors.push_back({here(), std::move(message)}); }

  std::string_view rest_;
  std::string name_;
  int line_ = 0;
  bool before_first_header_ = true;
  std::optional<std::string> section_;
  std::string waiting_for_;
  std::optional<std::string> long_value_;  // of the line whose key inih has
  std::map<std::pair<std::string, std::string>, Origin> seen_;
  Deck deck_;
};

}  // namespace

Deck parse_deck(std::string_view text, const std::string& name) {
  return DeckReader(text, name).parse();
}

Deck parse_overrides(const std::vector<std::string>& overrides) {
  Deck deck;
  std::map<std::pair<std::string, std::string>, std::string> seen;
  int position = 0;
  for (const std::string& text : overrides) {
    const Origin origin{Origin::Kind::command_line, "command line", ++position};
    const auto fail = [&](std::string message) {
      deck.errors.push_back({origin, std::move(message)});
    };
    const auto equals = text.find('=');
    const auto separator = text.find_first_of("/.");
    const bool has_form = equals != std::string::npos && separator < equals && separator > 0 &&
                          separator + 1 < equals;
    if (!has_form) {
      fail(cat("\"", text, "\" is not section/key=value"));
      continue;
    }
    const std::string_view view = text;
    DeckEntry entry{std::string(trim(view.substr(0, separator))),
                    std::string(trim(view.substr(separator + 1, equals - separator - 1))),
                    std::string(trim(view.substr(equals + 1))), origin};
    if (const std::string reason = why_refused(entry); !reason.empty()) {
      fail(cat("[", entry.section, "] ", entry.key, ": ", reason));
      continue;
    }
    const auto [known, is_new] = seen.try_emplace({entry.section, entry.key}, entry.value);
    if (!is_new) {
      fail(cat("[", entry.section, "] ", entry.key, " is given twice on the command line, as ",
               known->second, " and as ", entry.value));
      continue;
    }
    deck.entries.push_back(std::move(entry));
  }
  return deck;
}

std::string read_deck_file(const std::string& path) {
  const auto refuse = [&](const char* reason) {
    throw UserError(cat("cannot read the deck ", path, ": ", reason));
  };
  std::error_code ignored;  // the reading itself will tell
  if (std::filesystem::is_directory(path, ignored)) refuse("it is a folder");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();  // of an empty file: fails, and gives the empty text we want
  if (file.bad() || text.bad()) refuse(std::strerror(errno));
  return text.str();
}

}  // namespace koios
