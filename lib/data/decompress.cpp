#include "data/decompress.hpp"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <string_view>
#include <utility>
#include <vector>

#include "core/integers.hpp"

namespace koios {
namespace {

using namespace std::string_view_literals;

constexpr std::size_t kBlockBytes = 64 * 1024;
constexpr std::uint64_t kXzMemoryBytes = 512ULL << 20;  // of a decoder; xz -9 needs 65 MiB
constexpr int kMaxLayers = 4;

constexpr auto kGzip = "\x1f\x8b"sv;
constexpr auto kZstd = "\x28\xb5\x2f\xfd"sv;
constexpr auto kXz =
    "\xfd"
    "7zXZ\0"sv;

/// Compressed bytes in a block, for all three libraries.
class Decoder : public ByteSource {
 public:
  std::size_t read(char* into, std::size_t size) final {
    while (size > 0) {
      if (input_.empty() && !at_end_) fetch();
      const std::size_t before = input_.size();
      const std::size_t made = decode(into, size);
      if (made > 0) return made;
      if (!input_.empty() && input_.size() == before) damaged("cannot be read on");
      if (at_end_ && input_.empty()) {
        if (!between_streams_) damaged("ends in the middle of its compressed data");
        break;
      }
    }
    return 0;
  }

 protected:
  Decoder(std::unique_ptr<ByteSource> source, std::string name, const char* kind)
      : source_(std::move(source)), name_(std::move(name)), kind_(kind), block_(kBlockBytes) {}

  /// Uses up some of input_, fills some of `into`, and says in between_streams_ whether the
  /// compressed data may end here. Returns the bytes made.
  virtual std::size_t decode(char* into, std::size_t size) = 0;

  [[noreturn]] void damaged(const std::string& what) const {
    throw BadFile(cat(name_, ": ", kind_, " data that ", what, " (byte ",
                      consumed_ - std::ssize(input_), " of the compressed file)"));
  }

  std::string_view input_;
  bool at_end_ = false;  // of the source
  bool between_streams_ = false;

 private:
  void fetch() {
    const std::size_t count = source_->read(block_.data(), block_.size());
    consumed_ += narrow<std::int64_t>(count);
    input_ = {block_.data(), count};
    at_end_ = count == 0;
  }

  std::unique_ptr<ByteSource> source_;
  std::string name_;
  const char* kind_;
  std::vector<char> block_;
  std::int64_t consumed_ = 0;
};

class GzipSource final : public Decoder {
 public:
  GzipSource(std::unique_ptr<ByteSource> source, const std::string& name)
      : Decoder(std::move(source), name, "gzip") {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) damaged("zlib has no memory for");
  }
  ~GzipSource() override { inflateEnd(&stream_); }

 private:
  std::size_t decode(char* into, std::size_t size) override {
    if (between_streams_ && !input_.empty()) {
      if (pass_padding()) return 0;
      inflateReset(&stream_);
      between_streams_ = false;
    }
    // zlib takes input as non-const but leaves it as it is.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input_.data()));
    stream_.avail_in = narrow<uInt>(input_.size());
    stream_.next_out = reinterpret_cast<Bytef*>(into);
    stream_.avail_out = narrow<uInt>(size);
    const int code = inflate(&stream_, Z_NO_FLUSH);
    input_.remove_prefix(input_.size() - stream_.avail_in);
    if (code == Z_STREAM_END) {
      between_streams_ = true;
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      damaged(cat("is damaged: ", stream_.msg != nullptr ? stream_.msg : zError(code)));
    }
    return size - stream_.avail_out;
  }

  /// Zeros may follow the last stream (tapes); true where all of input_ was such.
  bool pass_padding() {
    const auto next = input_.find_first_not_of('\0');
    input_.remove_prefix(next == std::string_view::npos ? input_.size() : next);
    return input_.empty();
  }

  z_stream stream_{};
};

class ZstdSource final : public Decoder {
 public:
  ZstdSource(std::unique_ptr<ByteSource> source, const std::string& name)
      : Decoder(std::move(source), name, "zstd"), stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) damaged("libzstd has no memory for");
  }
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }

 private:
  std::size_t decode(char* into, std::size_t size) override {
    ZSTD_inBuffer in{input_.data(), input_.size(), 0};
    ZSTD_outBuffer out{into, size, 0};
    const std::size_t left = ZSTD_decompressStream(stream_, &out, &in);
    if (ZSTD_isError(left) != 0) {
      damaged(
          cat("is damaged, or was packed with a window above 128 MiB: ", ZSTD_getErrorName(left)));
    }
    const bool moved = in.pos > 0 || out.pos > 0;
    input_.remove_prefix(in.pos);
    if (moved) between_streams_ = left == 0;
    return out.pos;
  }

  ZSTD_DStream* stream_;
};

class XzSource final : public Decoder {
 public:
  XzSource(std::unique_ptr<ByteSource> source, const std::string& name)
      : Decoder(std::move(source), name, "xz") {
    if (lzma_stream_decoder(&stream_, kXzMemoryBytes, LZMA_CONCATENATED) != LZMA_OK) {
      damaged("liblzma has no memory for");
    }
  }
  ~XzSource() override { lzma_end(&stream_); }

 private:
  std::size_t decode(char* into, std::size_t size) override {
    if (between_streams_) return 0;
    stream_.next_in = reinterpret_cast<const std::uint8_t*>(input_.data());
    stream_.avail_in = input_.size();
    stream_.next_out = reinterpret_cast<std::uint8_t*>(into);
    stream_.avail_out = size;
    const lzma_ret code = lzma_code(&stream_, at_end_ ? LZMA_FINISH : LZMA_RUN);
    input_.remove_prefix(input_.size() - stream_.avail_in);
    if (code == LZMA_STREAM_END) {
      between_streams_ = true;
    } else if (code == LZMA_MEMLIMIT_ERROR) {
      damaged(cat("needs more than ", kXzMemoryBytes >> 20, " MiB to unpack"));
    } else if (code != LZMA_OK && code != LZMA_BUF_ERROR) {
      damaged(cat("is damaged (liblzma code ", static_cast<int>(code), ")"));
    }
    return size - stream_.avail_out;
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
};

void refuse_others(std::string_view head, const std::string& name) {
  const auto refuse = [&](const char* what) {
    throw BadFile(cat(name, ": is ", what, ", which Koios does not read"));
  };
  if (head.starts_with("BZh")) refuse("compressed by bzip2");
  if (head.starts_with("PK\x03\x04")) refuse("a zip archive");
  if (head.starts_with("PAR1") || head.starts_with("ARROW1")) {
    throw BadFile(cat(name, ": is a table (Parquet or Arrow); ",
                      "tools/get_dataset.py convert makes JSON lines of it"));
  }
}

}  // namespace

bool is_compressed(std::string_view head) {
  return head.starts_with(kGzip) || head.starts_with(kZstd) || head.starts_with(kXz);
}

std::unique_ptr<PeekSource> decompress(std::unique_ptr<ByteSource> source,
                                       const std::string& name) {
  auto inside = std::make_unique<PeekSource>(std::move(source));
  for (int layer = 0;; ++layer) {
    const std::string head(inside->peek(8));
    std::unique_ptr<ByteSource> decoder;
    if (head.starts_with(kGzip)) {
      decoder = std::make_unique<GzipSource>(std::move(inside), name);
    } else if (head.starts_with(kZstd)) {
      decoder = std::make_unique<ZstdSource>(std::move(inside), name);
    } else if (head.starts_with(kXz)) {
      decoder = std::make_unique<XzSource>(std::move(inside), name);
    } else {
      refuse_others(head, name);
      return inside;
    }
    if (layer == kMaxLayers) throw BadFile(cat(name, ": compressed over and over"));
    inside = std::make_unique<PeekSource>(std::move(decoder));
  }
}

}  // namespace koios
