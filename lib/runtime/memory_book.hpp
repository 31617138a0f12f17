// Who took the memory of this process's device (of the host: of this process), part of the start by
// part: what libraries take stands in no plan, and where memory ends one wants to know whose it is.
//
//   MemoryBook book(Backend::cuda);         // what is in use by now is the first entry
//   book.note("communicators");             // what came since then is theirs,
//   book.note_known("plan", plan_bytes);    // or of what came since then so much the plan's
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "runtime/backend.hpp"

namespace koios {

class MemoryBook {
 public:
  /// The process has one at a time, whose words about_memory() uses.
  explicit MemoryBook(Backend backend);
  MemoryBook(const MemoryBook&) = delete;
  MemoryBook& operator=(const MemoryBook&) = delete;
  ~MemoryBook();

  void note(std::string what);
  void note_known(std::string what, std::int64_t bytes);
  /// "GPU memory: context and other processes 0.52, communicators 0.31, ..., in all 88.90
  /// GiB; 51.20 GiB are free". What came since the last note goes by that name, if it is much.
  std::string describe() const;

  /// What to say of memory beside this error: describe(), where the error is of memory or a GPU has
  /// next to none; else "". Asks the device, but throws nothing.
  static std::string about_memory(const std::string& error) noexcept;

 private:
  Backend backend_;
  std::vector<std::pair<std::string, std::int64_t>> entries_;
  std::int64_t used_bytes_ = 0;
};

}  // namespace koios
