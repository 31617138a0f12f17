// Text from elsewhere on its way to a terminal.
#pragma once

#include <string>
#include <string_view>

namespace koios {

/// `text` with what a terminal might obey, control characters other than line ends and tabs and
/// those that turn the order of writing, and with bytes that are no UTF-8, written as \x1b. Names
/// of files, lines of decks and data are quoted in messages; none of them may move the cursor,
/// change the title, or type commands.
std::string printable(std::string_view text);

}  // namespace koios
