#include "data/packed_file.hpp"

#include <utility>

#include "data/decompress.hpp"

namespace koios {
namespace {

constexpr std::size_t kMaxDepth = 4;

}  // namespace

bool is_packed(const std::string& path) {
  PeekSource file(open_file(path));
  const std::string_view head = file.peek(512);
  return is_compressed(head) || is_tar(head);
}

PackedFile::PackedFile(const std::string& path, std::function<bool(const std::string&)> wants)
    : path_(path), wants_(std::move(wants)) {}

/// The member, or none where it is an archive: its members are then next.
std::optional<PackedMember> PackedFile::open(std::unique_ptr<ByteSource> packed, std::string name) {
  std::unique_ptr<PeekSource> bytes = decompress(std::move(packed), name);
  if (!is_tar(bytes->peek(512))) return PackedMember{std::move(name), std::move(bytes)};
  if (open_.size() == kMaxDepth) throw BadFile(cat(name, ": archives in archives, too deep"));
  auto tar = std::make_unique<TarReader>(std::move(bytes), name);
  open_.push_back({std::move(name), std::move(tar)});
  return std::nullopt;
}

std::optional<PackedMember> PackedFile::next() {
  if (!is_opened_) {
    is_opened_ = true;
    if (auto file = open(open_file(path_), path_)) return file;
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
