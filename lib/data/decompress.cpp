#include "data/decompress.hpp"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "core/file_kind.hpp"
#include "core/integers.hpp"

namespace koios {
namespace {

using namespace std::string_view_literals;

constexpr std::size_t kBlockBytes = 64 * 1024;
constexpr std::uint64_t kXzMemoryBytes = 512ULL << 20;  // of a decoder; xz -9 needs 65 MiB
constexpr int kMaxZstdWindowLog = 31;                   // 2 GiB, zstd --long=31
constexpr int kMaxLayers = 4;
constexpr std::int64_t kFreeBytes = std::int64_t{1} << 30;  // see Unpacking
constexpr std::int64_t kMostRatio = 1000;

constexpr auto kGzip = "\x1f\x8b"sv;
constexpr auto kXz =
    "\xfd"
    "7zXZ\0"sv;

/// A frame of zstd, of one of its older forms, or a skippable one, as pzstd puts in front.
bool is_zstd(std::string_view head) {
  if (head.size() < 4) return false;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(head[i]); };
  const bool is_frame = byte(0) >= 0x22 && byte(0) <= 0x28 && head.substr(1, 3) == "\xb5\x2f\xfd"sv;
  const bool is_skippable =
      byte(0) >= 0x50 && byte(0) <= 0x5f && head.substr(1, 3) == "\x2a\x4d\x18"sv;
  return is_frame || is_skippable;
}

/// Compressed bytes in a block, for all three libraries.
class Decoder : public ByteSource {
 public:
  std::size_t read(char* into, std::size_t size) final {
    while (size > 0) {
      if (input_.empty() && !at_end_) fetch();
      const std::size_t before = input_.size();
      const std::size_t made = decode(into, size);
      if (made > 0) {
        made_ += narrow<std::int64_t>(made);
        if (made_ > kFreeBytes && made_ / kMostRatio > unpacking_.file_bytes) {
          damaged(cat("unpacks to more than ", kMostRatio, " times its size"));
        }
        return made;
      }
      if (!input_.empty() && input_.size() == before) damaged("cannot be read on");
      if (at_end_ && input_.empty()) {
        if (!between_streams_) damaged("ends in the middle of its compressed data");
        break;
      }
    }
    return 0;
  }

 protected:
  Decoder(std::unique_ptr<ByteSource> source, std::string name, const char* kind,
          const Unpacking& unpacking)
      : source_(std::move(source)),
        name_(std::move(name)),
        kind_(kind),
        unpacking_(unpacking),
        block_(kBlockBytes) {}

  /// Uses up some of input_, fills some of `into`, and says in between_streams_ whether the
  /// compressed data may end here. Returns the bytes made.
  virtual std::size_t decode(char* into, std::size_t size) = 0;

  [[noreturn]] void damaged(const std::string& what) const {
    throw BadFile(cat(name_, ": ", kind_, " data that ", what, " (byte ",
                      consumed_ - std::ssize(input_), " of the compressed file)"));
  }

  /// Passes over all that follows, none of which is this kind's, with a warning.
  void leave_rest() {
    if (unpacking_.note) {
      unpacking_.note(cat(name_, ": what follows its ", kind_, " data is not ", kind_,
                          " and is left out (from byte ", consumed_ - std::ssize(input_),
                          " of the compressed file on)"));
    }
    while (!at_end_) fetch();
    input_ = {};
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
  const Unpacking& unpacking_;
  std::vector<char> block_;
  std::int64_t consumed_ = 0;
  std::int64_t made_ = 0;
};

class GzipSource final : public Decoder {
 public:
  GzipSource(std::unique_ptr<ByteSource> source, const std::string& name,
             const Unpacking& unpacking)
      : Decoder(std::move(source), name, "gzip", unpacking) {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) damaged("zlib has no memory for");
  }
  ~GzipSource() override { inflateEnd(&stream_); }

 private:
  std::size_t decode(char* into, std::size_t size) override {
    if (between_streams_) {
      if (pass_padding()) return 0;  // nothing follows
      inflateReset(&stream_);
      between_streams_ = false;
      is_first_ = false;
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
    } else if (code == Z_DATA_ERROR && !is_first_ && stream_.total_out == 0 &&
               std::strcmp(stream_.msg, "incorrect header check") == 0) {
      leave_rest();
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
  bool is_first_ = true;  // of several streams
};

class ZstdSource final : public Decoder {
 public:
  ZstdSource(std::unique_ptr<ByteSource> source, const std::string& name,
             const Unpacking& unpacking)
      : Decoder(std::move(source), name, "zstd", unpacking), stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) damaged("libzstd has no memory for");
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }

 private:
  std::size_t decode(char* into, std::size_t size) override {
    if (is_frame_start_) window_ = window_of(input_);
    ZSTD_inBuffer in{input_.data(), input_.size(), 0};
    ZSTD_outBuffer out{into, size, 0};
    const std::size_t left = ZSTD_decompressStream(stream_, &out, &in);
    if (ZSTD_isError(left) != 0) refuse(left);
    const bool moved = in.pos > 0 || out.pos > 0;
    input_.remove_prefix(in.pos);
    if (moved) between_streams_ = is_frame_start_ = left == 0;
    return out.pos;
  }

  /// By the header of the frame that begins here (RFC 8878, 3.1.1.1); 0 where it does not say.
  static std::int64_t window_of(std::string_view frame) {
    if (frame.size() < 6 || (static_cast<unsigned char>(frame[4]) & 0x20U) != 0) return 0;
    const auto descriptor = static_cast<unsigned char>(frame[5]);
    const std::int64_t base = std::int64_t{1} << (10 + (descriptor >> 3));
    return base + base / 8 * (descriptor & 7);
  }

  [[noreturn]] void refuse(std::size_t code) const {
    const std::string window =
        window_ > 0 ? cat("a window of ", window_ >> 20, " MiB") : std::string("its window");
    switch (ZSTD_getErrorCode(code)) {
      case ZSTD_error_frameParameter_windowTooLarge:
        damaged(cat("needs ", window, ", more than the ",
                    (std::int64_t{1} << kMaxZstdWindowLog) >> 20, " MiB that Koios and zstd read"));
      case ZSTD_error_memory_allocation:
        damaged(cat("needs more memory for ", window, " than there is"));
      default:
        damaged(cat("is damaged: ", ZSTD_getErrorName(code)));
    }
  }

  ZSTD_DStream* stream_;
  bool is_frame_start_ = true;
  std::int64_t window_ = 0;
};

class XzSource final : public Decoder {
 public:
  XzSource(std::unique_ptr<ByteSource> source, const std::string& name, const Unpacking& unpacking)
      : Decoder(std::move(source), name, "xz", unpacking) {
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
  const std::string kind = binary_kind(head);
  if (kind.empty()) return;
  if (kind.ends_with(" table")) {
    throw BadFile(
        cat(name, ": is ", kind, "; tools/get_dataset.py convert makes JSON lines of it"));
  }
  throw BadFile(
      cat(name, ": is ", kind, is_lfs_pointer(head) ? "" : ", which Koios does not read"));
}

}  // namespace

bool is_compressed(std::string_view head) {
  return head.starts_with(kGzip) || is_zstd(head) || head.starts_with(kXz);
}

std::unique_ptr<PeekSource> decompress(std::unique_ptr<ByteSource> source, const std::string& name,
                                       const Unpacking& unpacking) {
  auto inside = std::make_unique<PeekSource>(std::move(source));
  for (int layer = 0;; ++layer) {
    const std::string head(inside->peek(kFileHeadBytes));
    std::unique_ptr<ByteSource> decoder;
    if (head.starts_with(kGzip)) {
      decoder = std::make_unique<GzipSource>(std::move(inside), name, unpacking);
    } else if (is_zstd(head)) {
      decoder = std::make_unique<ZstdSource>(std::move(inside), name, unpacking);
    } else if (head.starts_with(kXz)) {
      decoder = std::make_unique<XzSource>(std::move(inside), name, unpacking);
    } else {
      refuse_others(head, name);
      return inside;
    }
    if (layer == kMaxLayers) throw BadFile(cat(name, ": compressed over and over"));
    inside = std::make_unique<PeekSource>(std::move(decoder));
  }
}

}  // namespace koios
