// The run folder (job/dump_folder): made, proved writable, and held by one job at a time.
// Rank 0 only; a folder may be used by several jobs one after the other, numbered 1, 2, ...
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "runtime/file.hpp"

namespace koios {

/// Of provenance.json: thousands of starts. What is larger was not written by a run.
constexpr std::int64_t kMostProvenanceBytes = std::int64_t{64} << 20;

class RunFolder {
 public:
  /// Throws UserError if the folder cannot be made, is read-only, or another job is using it.
  explicit RunFolder(const std::filesystem::path& path);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder();

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path file(std::string_view name) const { return path_ / name; }
  /// Which start in this folder this is: one more than the last that left a trace there.
  int run() const { return run_; }

 private:
  std::filesystem::path path_;
  FileDescriptor lock_;  // run.lock; locked as long as it is open
  int run_ = 1;
};

}  // namespace koios
