#include "config/expand.hpp"

#include <pwd.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>

#include "core/error.hpp"

namespace koios {
namespace {

bool is_of_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// Takes the name of a variable from behind a $ off `rest`; empty where there is none.
std::string take_name(std::string_view& rest) {
  const bool in_braces = rest.starts_with('{');
  std::size_t end = in_braces ? 1 : 0;
  const std::size_t begin = end;
  while (end < rest.size() && is_of_name(rest[end])) ++end;
  const bool is_name = end > begin && std::isdigit(static_cast<unsigned char>(rest[begin])) == 0 &&
                       (!in_braces || (end < rest.size() && rest[end] == '}'));
  if (!is_name) return {};
  std::string name(rest.substr(begin, end - begin));
  rest.remove_prefix(in_braces ? end + 1 : end);
  return name;
}

}  // namespace

std::optional<std::string> process_environment(const std::string& name) {
  const char* value = nullptr;
  if (!name.starts_with('~')) {
    value = std::getenv(name.c_str());
  } else if (name == "~") {
    value = std::getenv("HOME");
    if (value == nullptr) {
      const passwd* user = ::getpwuid(::geteuid());
      value = user == nullptr ? nullptr : user->pw_dir;
    }
  } else if (const passwd* user = ::getpwnam(name.c_str() + 1); user != nullptr) {
    value = user->pw_dir;
  }
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

Problem expand_value(std::filesystem::path& value, const Environment& environment) {
  const std::string text = value.string();
  std::string_view rest = text;
  std::string expanded;
  if (rest.starts_with('~')) {
    const std::string home(rest.substr(0, rest.find('/')));
    const auto folder = environment(home);
    if (!folder) return cat("the home folder ", home, " is not known");
    expanded = *folder;
    rest.remove_prefix(home.size());
  }
  while (!rest.empty()) {
    const char c = rest.front();
    rest.remove_prefix(1);
    if (c == '\\' && rest.starts_with('$')) {
      expanded += '$';
      rest.remove_prefix(1);
    } else if (c != '$') {
      expanded += c;
    } else {
      const std::string name = take_name(rest);
      if (name.empty()) {
        return "a $ without the name of a variable: $NAME and ${NAME} are replaced, and a dollar "
               "sign is written \\$";
      }
      const auto variable = environment(name);
      if (!variable) return cat("the environment variable ", name, " is not set");
      expanded += *variable;
    }
  }
  value = expanded;
  return {};
}

}  // namespace koios
