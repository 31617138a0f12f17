#include "data/packed_file.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "core/file_kind.hpp"

namespace koios {
namespace {

constexpr std::size_t kMaxDepth = 4;

bool ends_with_one_of(std::string_view name, const auto& ends) {
  return std::ranges::any_of(ends, [&](std::string_view end) { return name.ends_with(end); });
}

bool says_tar(std::string_view name) {
  static constexpr std::array<std::string_view, 7> kEnds = {
      ".tar", ".tgz", ".txz", ".tzst", ".tar.gz", ".tar.xz", ".tar.zst"};
  return ends_with_one_of(name, kEnds);
}

bool says_compressed(std::string_view name) {
  static constexpr std::array<std::string_view, 6> kEnds = {".gz",  ".xz",  ".zst",
                                                            ".tgz", ".txz", ".tzst"};
  return ends_with_one_of(name, kEnds);
}

/// A download that broke off, or what a server sent in place of the file, must not pass for text.
[[noreturn]] void refuse_name(const std::string& name, const char* said, std::string_view head) {
  std::string kind = file_kind(head);
  if (std::ranges::all_of(head, [](char c) { return c == '\0'; }))
    kind = "zeros (an empty archive?)";
  throw BadFile(cat(name, ": its name says ", said, ", but it is ",
                    kind.empty() ? "none by its first bytes" : kind));
}

}  // namespace

bool is_packed(const std::string& path) {
  PeekSource file(open_file(path));
  const std::string_view head = file.peek(512);
  return is_compressed(head) || is_tar(head);
}

PackedFile::PackedFile(const std::string& path, std::function<bool(const std::string&)> wants,
                       std::function<void(const std::string&)> note)
    : path_(path), wants_(std::move(wants)), unpacking_(new Unpacking{0, std::move(note)}) {}

/// The member, or none where it is an archive: its members are then next.
std::optional<PackedMember> PackedFile::open(std::unique_ptr<ByteSource> packed, std::string name) {
  auto outside = std::make_unique<PeekSource>(std::move(packed));
  const std::string head(outside->peek(kFileHeadBytes));
  std::unique_ptr<PeekSource> bytes = decompress(std::move(outside), name, *unpacking_);
  if (!is_tar(bytes->peek(512))) {
    if (!head.empty() && says_compressed(name) && !is_compressed(head)) {
      refuse_name(name, "compressed", head);
    }
    if (!head.empty() && says_tar(name)) refuse_name(name, "tar archive", bytes->peek(512));
    return PackedMember{std::move(name), std::move(bytes)};
  }
  if (open_.size() == kMaxDepth) throw BadFile(cat(name, ": archives in archives, too deep"));
  auto tar = std::make_unique<TarReader>(std::move(bytes), name, unpacking_->note);
  open_.push_back({std::move(name), std::move(tar)});
  return std::nullopt;
}

std::optional<PackedMember> PackedFile::next() {
  if (!is_opened_) {
    is_opened_ = true;
    if (auto file = open(open_file(path_, &unpacking_->file_bytes), path_)) return file;
  }
  while (!open_.empty()) {
    TarReader& innermost = *open_.back().tar;
    if (!innermost.next()) {
      open_.pop_back();
      continue;
    }
    if (!wants_(innermost.member())) continue;
    auto member = open(innermost.open(), cat(open_.back().name, ": ", innermost.member()));
    if (member) return member;
  }
  return std::nullopt;
}

}  // namespace koios
