#include "data/tar_reader.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "core/integers.hpp"

namespace koios {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::int64_t kMaxExtension = 1 << 20;  // a pax header or a long name

std::string_view text_of(std::string_view field) { return field.substr(0, field.find('\0')); }

/// An octal number, or GNU's binary one for what does not fit.
std::optional<std::int64_t> number_of(std::string_view field) {
  if (!field.empty() && (static_cast<unsigned char>(field[0]) & 0x80U) != 0) {
    std::int64_t value = 0;
    for (std::size_t i = field.size() - 7; i < field.size(); ++i) {
      value = (value << 8) | static_cast<unsigned char>(field[i]);
    }
    return value;
  }
  field = text_of(field);
  while (!field.empty() && field.front() == ' ') field.remove_prefix(1);
  while (!field.empty() && field.back() == ' ') field.remove_suffix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value, 8);
  if (error != std::errc{} || end != field.data() + field.size() || value < 0) return std::nullopt;
  return value;
}

std::int64_t checksum_of(std::string_view header) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < kBlock; ++i) {
    sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(header[i]);
  }
  return sum;
}

/// The value of one key in a pax header: lines "length key=value".
std::optional<std::string> pax_value(std::string_view records, std::string_view wanted) {
  std::optional<std::string> value;
  while (!records.empty()) {
    std::size_t size = 0;
    const auto [end, error] =
        std::from_chars(records.data(), records.data() + records.size(), size);
    const auto digits = static_cast<std::size_t>(end - records.data());
    if (error != std::errc{} || size <= digits + 1 || size > records.size()) break;
    const std::string_view record = records.substr(digits + 1, size - digits - 2);
    const auto equals = record.find('=');
    if (record.substr(0, equals) == wanted && equals != std::string_view::npos) {
      value = std::string(record.substr(equals + 1));
    }
    records.remove_prefix(size);
  }
  return value;
}

}  // namespace

bool is_tar(std::string_view head) {
  // Not by its "ustar", which archives of the oldest form (v7) do without.
  return head.size() >= kBlock && number_of(head.substr(148, 8)) == checksum_of(head);
}

/// Hands out what is left of the reader's present member.
class TarMemberSource final : public ByteSource {
 public:
  explicit TarMemberSource(TarReader& tar) : tar_(tar) {}

  std::size_t read(char* into, std::size_t size) override {
    const auto wanted = std::min<std::int64_t>(narrow<std::int64_t>(size), tar_.left_);
    if (wanted == 0) return 0;
    const std::size_t count = tar_.archive_->read(into, static_cast<std::size_t>(wanted));
    return static_cast<std::size_t>(took(narrow<std::int64_t>(count)));
  }
  std::int64_t skip(std::int64_t bytes) override {
    const std::int64_t wanted = std::min(bytes, tar_.left_);
    return wanted == 0 ? 0 : took(tar_.archive_->skip(wanted));
  }

 private:
  std::int64_t took(std::int64_t count) {
    if (count == 0) tar_.damaged(cat("ends in the middle of ", tar_.member_));
    tar_.left_ -= count;
    tar_.position_ += count;
    return count;
  }

  TarReader& tar_;
};

TarReader::TarReader(std::unique_ptr<ByteSource> archive, std::string name,
                     std::function<void(const std::string&)> note)
    : archive_(std::move(archive)), name_(std::move(name)), note_(std::move(note)) {}

void TarReader::damaged(const std::string& what) const {
  throw BadFile(cat(name_, ": tar archive that ", what, " (byte ", position_, " of the archive)"));
}

void TarReader::pass_rest() {
  const std::int64_t rest = left_ + padding_;
  const std::int64_t passed = rest == 0 ? 0 : archive_->skip(rest);
  position_ += passed;
  if (passed < rest) damaged(cat("ends in the middle of ", member_));
  left_ = padding_ = 0;
}

/// Bytes of the block that there were.
std::size_t TarReader::read_block(std::string& block) {
  block.resize(kBlock);
  std::size_t filled = 0;
  while (filled < kBlock) {
    const std::size_t count = archive_->read(block.data() + filled, kBlock - filled);
    if (count == 0) break;
    filled += count;
  }
  return filled;
}

/// False at the end. Zeros end an archive and fill up its last record; another archive may follow
/// (cat a.tar b.tar), whose header is then the next block that is not zeros.
bool TarReader::read_header(std::string& header) {
  bool is_behind_end = false;
  while (true) {
    const std::size_t filled = read_block(header);
    if (filled == 0 && is_behind_end) return false;
    const bool is_zero =
        std::ranges::all_of(header.begin(), header.begin() + narrow<std::ptrdiff_t>(filled),
                            [](char c) { return c == '\0'; });
    if (filled < kBlock && !is_behind_end) damaged("ends without the zeros at its end");
    position_ += narrow<std::int64_t>(filled);
    if (is_zero) {
      is_behind_end = true;
      continue;
    }
    if (filled == kBlock && is_tar(header)) return true;
    if (!is_behind_end) damaged("has a header with a wrong checksum");
    if (note_) {
      note_(cat(name_, ": what follows the end of this tar archive is no archive and is left out ",
                "(from byte ", position_ - narrow<std::int64_t>(filled), " of the archive on)"));
    }
    return false;
  }
}

std::string TarReader::read_extension() {
  if (left_ > kMaxExtension) damaged("has an extended header above 1 MiB");
  std::string text(static_cast<std::size_t>(left_), '\0');
  TarMemberSource source(*this);
  for (std::size_t filled = 0; filled < text.size();) {
    filled += source.read(text.data() + filled, text.size() - filled);
  }
  return text;
}

bool TarReader::next() {
  std::optional<std::string> long_name;
  std::optional<std::string> pax;
  std::string header;
  while (true) {
    pass_rest();
    if (!read_header(header)) return false;
    const std::string_view h = header;
    auto size = number_of(h.substr(124, 12));
    const char type = h[156];
    if (pax) {
      if (const auto text = pax_value(*pax, "size")) {
        std::int64_t value = 0;
        const auto parsed = std::from_chars(text->data(), text->data() + text->size(), value);
        size = parsed.ec == std::errc{} && value >= 0 ? std::optional(value) : std::nullopt;
      }
    }
    constexpr std::int64_t kMaxSize = std::int64_t{1} << 56;
    if (!size || *size > kMaxSize) damaged("has a header without a valid size");
    left_ = *size;
    padding_ = (narrow<std::int64_t>(kBlock) - left_ % 512) % 512;
    member_ = text_of(h.substr(0, 100));
    if (type == 'L') {
      long_name = text_of(read_extension());
      continue;
    }
    if (type == 'x') {
      pax = read_extension();
      continue;
    }
    if (const auto prefix = text_of(h.substr(345, 155)); h[262] == '\0' && !prefix.empty()) {
      member_ = cat(prefix, "/", member_);
    }
    if (long_name) member_ = *long_name;
    if (pax) member_ = pax_value(*pax, "path").value_or(member_);
    long_name.reset();
    pax.reset();
    if (type == '0' || type == '\0' || type == '7') return true;
    if (type == 'S') damaged(cat("holds the sparse file ", member_, ", which Koios does not read"));
  }
}

std::unique_ptr<ByteSource> TarReader::open() { return std::make_unique<TarMemberSource>(*this); }

}  // namespace koios
