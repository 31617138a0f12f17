#include "data/token_parts.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/error.hpp"
#include "core/integers.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kBlock = TokenFileHeader::kBlockBytes;
constexpr std::int64_t kCopyBytes = 4 * 1024 * 1024;

/// In front of a part's tokens and document begins.
struct PartHeader {
  std::array<char, 8> magic = {'K', 'O', 'I', 'O', 'S', 'P', 'R', 'T'};
  TokenPart part;
};

[[noreturn]] void fail(const std::string& path, const char* what) {
  throw UserError(cat(path, ": ", what, " failed: ", files::reason(errno)));
}

void read_all(const FileDescriptor& file, const std::string& path, std::int64_t at,
              std::span<std::byte> out) {
  const std::int64_t count = files::read_at(file.get(), at, out);
  if (count == std::ssize(out)) return;
  if (errno != 0) fail(path, "reading");
  throw UserError(cat(path, ": ends at byte ", at + count, ", too early"));
}

void write_all(const FileDescriptor& file, const std::string& path, std::int64_t at,
               std::span<const std::byte> bytes) {
  if (!files::write_at(file.get(), at, bytes)) fail(path, "writing");
}

/// To the disk, from this node.
void flush(const FileDescriptor& file, const std::string& path) {
  if (::fsync(file.get()) != 0) fail(path, "writing to the disk");
}

/// Gives a file its name once it is on the disk.
void put_in_place(const std::string& unfinished, const std::string& path) {
  flush(files::reopen(unfinished, O_WRONLY), unfinished);
  if (std::rename(unfinished.c_str(), path.c_str()) != 0) fail(unfinished, "renaming");
  const fs::path folder = fs::absolute(path).parent_path();
  const FileDescriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened) fail(folder.string(), "opening");
  flush(opened, folder.string());
}

}  // namespace

std::optional<TokenPart> find_part(const std::string& path, std::uint64_t job) {
  if (!fs::is_regular_file(fs::symlink_status(path))) return std::nullopt;
  const auto file = files::reopen(path, O_RDONLY);
  PartHeader header;
  const auto magic = header.magic;
  const auto bytes = std::as_writable_bytes(std::span(&header, 1));
  if (files::read_at(file.get(), 0, bytes) != std::ssize(bytes)) return std::nullopt;
  if (header.magic != magic || header.part.job != job) return std::nullopt;
  return header.part;
}

TokenPartWriter::TokenPartWriter(std::string path, std::uint64_t job, std::uint32_t token_bytes)
    : path_(std::move(path)),
      unfinished_(path_ + ".unfinished"),
      file_(files::create(unfinished_)),
      token_bytes_(token_bytes),
      part_{job, 0, 0} {
  const PartHeader header;
  write(std::as_bytes(std::span(&header, 1)));
}

void TokenPartWriter::write(std::span<const std::byte> bytes) {
  constexpr std::size_t kWrittenAtOnce = 256 * 1024;
  gathered_.insert(gathered_.end(), bytes.begin(), bytes.end());
  if (gathered_.size() >= kWrittenAtOnce) write_gathered();
}

void TokenPartWriter::write_gathered() {
  write_all(file_, unfinished_, position_, gathered_);
  position_ += std::ssize(gathered_);
  gathered_.clear();
}

void TokenPartWriter::add(std::span<const std::int32_t> document) {
  begins_.push_back(part_.tokens);
  ++part_.documents;
  part_.tokens += std::ssize(document);
  while (!document.empty()) {
    constexpr std::size_t kTokens = 16 * 1024;  // at once
    const auto piece = document.first(std::min(kTokens, document.size()));
    packed_.resize(piece.size() * token_bytes_);
    for (std::size_t i = 0; i < piece.size(); ++i) {
      std::memcpy(packed_.data() + i * token_bytes_, &piece[i], token_bytes_);
    }
    write(packed_);
    document = document.subspan(piece.size());
  }
}

TokenPart TokenPartWriter::finish() {
  write_gathered();
  write_all(file_, unfinished_, position_, std::as_bytes(std::span(begins_)));
  PartHeader header;
  header.part = part_;
  write_all(file_, unfinished_, 0, std::as_bytes(std::span(&header, 1)));
  put_in_place(unfinished_, path_);
  return part_;
}

TokenFileAssembly::TokenFileAssembly(std::string path, TokenFileHeader header,
                                     std::vector<std::string> part_paths,
                                     const std::vector<TokenPart>& parts)
    : path_(std::move(path)),
      unfinished_(path_ + ".unfinished"),
      header_(header),
      part_paths_(std::move(part_paths)),
      parts_(parts) {
  header_.tokens = header_.documents = 0;
  for (const TokenPart& part : parts_) {
    first_token_.push_back(header_.tokens);
    first_document_.push_back(header_.documents);
    header_.tokens += part.tokens;
    header_.documents += part.documents;
  }
  lay_out(header_);
}

void TokenFileAssembly::create() const {
  const auto file = files::create(unfinished_);
  // The file system fills what no rank writes, the padding, with zeros.
  if (const int code = ::posix_fallocate(file.get(), 0, header_.file_bytes); code != 0) {
    ::unlink(unfinished_.c_str());  // what it has been given already
    throw UserError(
        cat(path_, ": no room for ", header_.file_bytes, " bytes: ", std::strerror(code)));
  }
}

void TokenFileAssembly::copy_part(std::size_t number) const {
  const TokenPart& part = parts_[number];
  const auto from = files::reopen(part_paths_[number], O_RDONLY);
  const auto to = files::reopen(unfinished_, O_WRONLY);
  const std::int64_t token_bytes = part.tokens * header_.token_bytes;
  std::vector<std::byte> buffer;
  for (std::int64_t done = 0; done < token_bytes; done += std::ssize(buffer)) {
    buffer.resize(static_cast<std::size_t>(std::min(kCopyBytes, token_bytes - done)));
    read_all(from, part_paths_[number], sizeof(PartHeader) + done, buffer);
    write_all(to, unfinished_, kBlock + first_token_[number] * header_.token_bytes + done, buffer);
  }
  std::vector<std::int64_t> begins(static_cast<std::size_t>(part.documents));
  read_all(from, part_paths_[number], sizeof(PartHeader) + token_bytes,
           std::as_writable_bytes(std::span(begins)));
  for (std::int64_t& begin : begins) begin += first_token_[number];
  write_all(to, unfinished_, header_.documents_at + first_document_[number] * 8,
            std::as_bytes(std::span(begins)));
  flush(to, unfinished_);
}

void TokenFileAssembly::write_checksums(std::int64_t worker, std::int64_t workers) const {
  const auto file = files::reopen(unfinished_, O_RDWR);
  const std::int64_t blocks = header_.checksums_at / kBlock - 1;
  const std::int64_t end = blocks * (worker + 1) / workers;
  std::vector<std::byte> bytes(static_cast<std::size_t>(kBlock));
  for (std::int64_t block = blocks * worker / workers; block < end; ++block) {
    read_all(file, unfinished_, (block + 1) * kBlock, bytes);
    const std::uint64_t sum = checksum(bytes);
    write_all(file, unfinished_, header_.checksums_at + block * 8,
              std::as_bytes(std::span(&sum, 1)));
  }
  flush(file, unfinished_);
}

void TokenFileAssembly::finish() {
  const auto file = files::reopen(unfinished_, O_RDWR);
  std::vector<std::byte> sums(static_cast<std::size_t>(header_.file_bytes - header_.checksums_at));
  read_all(file, unfinished_, header_.checksums_at, sums);
  header_.contents_checksum = checksum(sums);
  header_.header_checksum = header_checksum(header_);
  write_all(file, unfinished_, 0, std::as_bytes(std::span(&header_, 1)));
  put_in_place(unfinished_, path_);
}

}  // namespace koios
