// A file by its descriptor: whole reads and writes at an offset, space, and what reaches the disk.
// Every failure is a UserError that names the file.
#pragma once

#include <cstdint>
#include <filesystem>

#include "runtime/file.hpp"

namespace koios::checkpoint {

class PosixFile {
 public:
  /// What is written, and only that, is never reached through a link.
  enum class Mode { read, write, create };
  PosixFile(std::filesystem::path path, Mode mode);
  /// A new one in this node's memory, which takes only what is written to it. It has a path, for
  /// this process alone, until it is closed.
  static PosixFile in_memory();

  const std::filesystem::path& path() const { return path_; }
  void write_at(std::int64_t offset, const void* data, std::int64_t bytes);
  void read_at(std::int64_t offset, void* data, std::int64_t bytes) const;
  /// Asks the disk for these bytes, without waiting for them.
  void will_need(std::int64_t offset, std::int64_t bytes) const;
  std::int64_t size() const;
  /// Takes disk space for the first `bytes` bytes now, so that writing them cannot run out of it.
  void reserve(std::int64_t bytes);
  /// Cuts it off there, or puts zeros behind what it has.
  void resize(std::int64_t bytes);
  /// Writes what was ever written to this file at the same places of the other.
  void copy_written_to(PosixFile& other) const;
  /// Returns when the content is on the disk.
  void sync();
  /// Lets the next reads come from the disk instead of this node's memory, where the system can.
  void drop_cache();

 private:
  PosixFile(std::filesystem::path path, int descriptor);
  /// Where content, or a hole, starts from `from` on; -1: nowhere.
  std::int64_t seek(std::int64_t from, int what) const;
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  FileDescriptor fd_;
};

/// A rename or removal in the folder is on the disk.
void sync_folder(const std::filesystem::path& folder);

}  // namespace koios::checkpoint
