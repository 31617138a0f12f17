#include "metrics/replace_file.hpp"

#include <fcntl.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "core/error.hpp"
#include "metrics/file_descriptor.hpp"

namespace koios {

void replace_file(const std::filesystem::path& path, std::string_view text) {
  const std::string partial = path.string() + ".partial";
  const FileDescriptor file(
      ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file || !write_all(file.get(), text) || std::rename(partial.c_str(), path.c_str()) != 0) {
    const int error = errno;
    if (file) std::remove(partial.c_str());
    throw UserError(cat("cannot write ", path.string(), ": ", std::strerror(error)));
  }
}

}  // namespace koios
