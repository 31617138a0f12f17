// What is in a file of a dataset: itself, unpacked; or the members of a tar archive, and of the
// archives in it. openwebtext's urlsf_subset00.tar holds .xz files, each a tar of .txt files.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/decompress.hpp"
#include "data/tar_reader.hpp"

namespace koios {

/// Whether a file is compressed or an archive, by its first bytes.
bool is_packed(const std::string& path);

/// Unpacked bytes and what to call them: "a.json.gz", or "subset00.tar: openwebtext/1.xz: 1.txt".
struct PackedMember {
  std::string name;
  std::unique_ptr<ByteSource> bytes;
};

class PackedFile {
 public:
  /// Members of an archive are taken where `wants` says so of their name; the file itself always.
  /// `note` is told what deserves a warning. BadFile also where a name says that a file is packed
  /// (.gz, .zst, .xz, .tar) and its bytes do not.
  PackedFile(const std::string& path, std::function<bool(const std::string&)> wants,
             std::function<void(const std::string&)> note = nullptr);

  /// The next member, which lives until the next call; none at the end.
  std::optional<PackedMember> next();

 private:
  std::optional<PackedMember> open(std::unique_ptr<ByteSource> packed, std::string name);

  struct Archive {
    std::string name;
    std::unique_ptr<TarReader> tar;
  };
  std::string path_;
  std::function<bool(const std::string&)> wants_;
  bool is_opened_ = false;
  std::unique_ptr<Unpacking> unpacking_;  // its sources point to it
  std::vector<Archive> open_;             // the innermost last
};

}  // namespace koios
