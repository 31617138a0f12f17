// The files in a tar archive, one after the other as they lie in it (v7, ustar, pax, GNU long
// names).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "data/byte_source.hpp"

namespace koios {

/// Whether these first bytes (512 or more are needed) are a tar archive's.
bool is_tar(std::string_view head);

class TarReader {
 public:
  /// `name` is for messages; `note`, which may be empty, is told what deserves a warning.
  TarReader(std::unique_ptr<ByteSource> archive, std::string name,
            std::function<void(const std::string&)> note);

  /// To the next regular file, also of archives that lie one behind the other; false at the end.
  /// BadFile where it is damaged.
  bool next();
  const std::string& member() const { return member_; }
  /// The bytes of the present member, until next(). The reader must outlive it.
  std::unique_ptr<ByteSource> open();

 private:
  friend class TarMemberSource;
  bool read_header(std::string& header);
  std::size_t read_block(std::string& block);
  std::string read_extension();
  void pass_rest();
  [[noreturn]] void damaged(const std::string& what) const;

  std::unique_ptr<ByteSource> archive_;
  std::string name_;
  std::function<void(const std::string&)> note_;
  std::string member_;
  std::int64_t position_ = 0;  // in the archive
  std::int64_t left_ = 0;      // of the present member
  std::int64_t padding_ = 0;   // behind it
};

}  // namespace koios
