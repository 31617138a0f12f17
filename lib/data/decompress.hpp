// gzip, zstd and xz as streams, several streams in one file included. What a file is, its first
// bytes say, not its name.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "data/byte_source.hpp"

namespace koios {

/// Whether these first bytes are of a form that decompress() unpacks.
bool is_compressed(std::string_view head);

/// What all layers of one file on the disk share.
struct Unpacking {
  /// Bytes of the file that were read. What is unpacked from them may be 1 GiB, or 1,000 times as
  /// many: more is no text but an attempt to keep the reader busy without end.
  std::int64_t file_bytes = 0;
  /// Told of what deserves a warning, such as bytes behind the compressed data.
  std::function<void(const std::string&)> note;
};

/// The bytes inside, whatever they are compressed with, also twice; `name` is for messages.
/// BadFile where the source begins as something that Koios does not unpack, or, later on, where it
/// is damaged, cut short, or unpacks to too much. `unpacking` must outlive the source.
std::unique_ptr<PeekSource> decompress(std::unique_ptr<ByteSource> source, const std::string& name,
                                       const Unpacking& unpacking);

}  // namespace koios
