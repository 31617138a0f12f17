// Compressed files and archives made by the programs that everybody makes them with.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "fixtures.hpp"

namespace koios::testing {

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Runs a shell command in the folder.
inline void shell(const TempFolder& folder, const std::string& command) {
  const std::string whole = "cd '" + folder.path() + "' && " + command;
  ASSERT_EQ(std::system(whole.c_str()), 0) << command;
}

/// Two documents a file in three files, each an xz of a tar, all in one tar: as openwebtext is
/// published. Leaves only `name` behind.
inline void make_openwebtext(const TempFolder& folder, const std::string& name) {
  shell(folder, "mkdir -p owt/in");
  for (int subset = 0; subset < 3; ++subset) {
    for (int i = 0; i < 2; ++i) {
      folder.write(cat("owt/in/", subset, "-", i, ".txt"),
                   cat("\n Document ", subset, ".", i, "\n\n\n\nand more  \n\n"));
    }
    shell(folder, cat("tar -C owt/in -c ", subset, "-0.txt ", subset, "-1.txt | xz -1 > owt/set",
                      subset, "_data.xz"));
  }
  shell(folder, "rm -r owt/in && tar --sort=name -cf '" + name + "' owt && rm -r owt");
}

}  // namespace koios::testing
