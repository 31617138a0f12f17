#include "core/file_kind.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <utility>

namespace koios {
namespace {

using namespace std::string_view_literals;

constexpr std::array<std::pair<std::string_view, std::string_view>, 17> kBinaries = {{
    {"\x89HDF\r\n\x1a\n"sv, "an HDF5 file"},
    {"KOIOSTOK"sv, "a token file of koios-tokenize"},
    {"\x1f\x8b"sv, "compressed by gzip"},
    {"\x28\xb5\x2f\xfd"sv, "compressed by zstd"},
    {"\xfd"
     "7zXZ\0"sv,
     "compressed by xz"},
    {"\x04\x22\x4d\x18"sv, "compressed by lz4"},
    {"\x1f\x9d"sv, "compressed by compress"},
    {"LZIP\x01"sv, "compressed by lzip"},
    {"\x5d\0\0"sv, "compressed by lzma"},
    {"PK\x03\x04"sv, "a zip archive"},
    {"7z\xbc\xaf\x27\x1c"sv, "a 7z archive"},
    {"Rar!\x1a\x07"sv, "a RAR archive"},
    {"PAR1"sv, "a Parquet table"},
    {"ARROW1"sv, "an Arrow table"},
    {"%PDF-1."sv, "a PDF document"},
    {"GGUF\x03"sv, "a GGUF file of llama.cpp"},
    {"\x80\x02}"sv, "a pickle of Python"},
}};

bool begins_without_case(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() &&
         std::ranges::equal(text.substr(0, lower.size()), lower, {}, [](char c) {
           return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
         });
}

/// Eight bytes of length, then a JSON object.
bool is_safetensors(std::string_view head) {
  return head.size() > 10 && head[6] == '\0' && head[7] == '\0' && head[8] == '{' &&
         (head[9] == '"' || head[9] == ' ');
}

/// Lines "BASE64 RANK", as OpenAI and Llama 3 have them.
bool is_tiktoken(std::string_view head) {
  const std::string_view line = head.substr(0, head.find('\n'));
  const auto space = line.find(' ');
  const auto is_base64 = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '+' || c == '/' || c == '=';
  };
  const auto is_digit = [](unsigned char c) { return std::isdigit(c) != 0; };
  return line.size() < head.size() && space != std::string_view::npos && space >= 4 &&
         space % 4 == 0 && space + 1 < line.size() &&
         std::ranges::all_of(line.substr(0, space), is_base64) &&
         std::ranges::all_of(line.substr(space + 1), is_digit);
}

}  // namespace

bool is_lfs_pointer(std::string_view head) {
  return head.starts_with("version https://git-lfs") &&
         head.find("\noid ") != std::string_view::npos;
}

std::string binary_kind(std::string_view head) {
  if (is_lfs_pointer(head)) {
    return "a Git LFS pointer, not the file itself (git lfs pull fetches that)";
  }
  for (const auto& [beginning, kind] : kBinaries) {
    if (head.starts_with(beginning)) return std::string(kind);
  }
  if (head.starts_with("BZh") && head.substr(4, 3) == "1AY") return "compressed by bzip2";
  if (is_safetensors(head)) return "a safetensors file";
  return {};
}

std::string file_kind(std::string_view head) {
  if (std::string binary = binary_kind(head); !binary.empty()) return binary;
  if (is_tiktoken(head)) return "a tiktoken vocabulary";
  const auto first = head.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  const std::string_view text = first == std::string_view::npos ? "" : head.substr(first);
  if (begins_without_case(text, "<!doctype html") || begins_without_case(text, "<html")) {
    return "an HTML page, such as a server's refusal or login form";
  }
  if (text.starts_with("{") || text.starts_with("[")) return "JSON";
  if (text.starts_with("<?xml")) return "XML";
  return {};
}

std::string file_head(const std::string& path) {
  std::string head(kFileHeadBytes, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, file.gcount())));
  return head;
}

}  // namespace koios
