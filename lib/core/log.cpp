#include "core/log.hpp"

#include <cstdio>

#include "core/printable.hpp"

namespace koios::log {
namespace {

Settings g_settings;

/// `text` is quoted here and nowhere else: see printable(). On a terminal the line first wipes what
/// a progress bar left on the screen's line.
void write_line(std::FILE* out, const std::string& head, const std::string& text) {
  const std::string whole = cat(g_settings.color ? "\033[K" : "", head, printable(text), "\n");
  std::fwrite(whole.data(), 1, whole.size(), out);
  std::fflush(out);
}

}  // namespace

void configure(const Settings& settings) { g_settings = settings; }
const Settings& settings() { return g_settings; }

void write_info(const std::string& line) {
  if (g_settings.shown) write_line(stdout, "[koios] ", line);
}

void write_warning(const std::string& line) {
  const char* on = g_settings.color ? "\033[33m" : "";
  const char* off = g_settings.color ? "\033[0m" : "";
  write_line(stderr, cat("[koios rank ", g_settings.rank, "] ", on, "warning: ", off), line);
}

void write_error(const std::string& line) {
  const char* on = g_settings.color ? "\033[31m" : "";
  const char* off = g_settings.color ? "\033[0m" : "";
  write_line(stderr, cat("[koios rank ", g_settings.rank, "] ", on, "error: ", off), line);
}

}  // namespace koios::log
