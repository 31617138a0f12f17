// gzip, zstd and xz as streams, several streams in one file included. What a file is, its first
// bytes say, not its name.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "data/byte_source.hpp"

namespace koios {

/// Whether these first bytes are of a form that decompress() unpacks.
bool is_compressed(std::string_view head);

/// The bytes inside, whatever they are compressed with, also twice; `name` is for messages.
/// BadFile where the source begins as something that Koios does not unpack, or, later on, where it
/// is damaged or cut short.
std::unique_ptr<PeekSource> decompress(std::unique_ptr<ByteSource> source, const std::string& name);

}  // namespace koios
