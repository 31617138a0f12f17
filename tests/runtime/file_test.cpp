#include "runtime/file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "core/error.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "koios_files_XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    std::ofstream(folder_ / "other") << "another's";
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string text_of(const std::string& name) const {
    std::stringstream text;
    text << std::ifstream(folder_ / name).rdbuf();
    return text.str();
  }
  /// What every way of writing says of what lies under this name.
  void refused_by_all(const std::string& message) const {
    const auto refused = [&](const auto& open) {
      try {
        open();
        ADD_FAILURE() << "not refused: " << message;
      } catch (const UserError& error) {
        EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
      }
    };
    refused([&] { files::create(folder_ / "file"); });
    refused([&] { files::open_or_create(folder_ / "file"); });
    refused([&] { files::reopen(folder_ / "file", O_WRONLY); });
    refused([&] { files::replace(folder_ / "file", "text"); });
    EXPECT_EQ(files::read_whole(folder_ / "file", 100), std::nullopt);
    EXPECT_EQ(text_of("other"), "another's");
  }

  fs::path folder_;
};

TEST_F(Files, WritesGoThroughNoLink) {
  fs::create_symlink("other", folder_ / "file");
  refused_by_all("file is a link to other, and Koios writes through no links: remove it");
}

TEST_F(Files, WritesGoIntoNoFolderNorPipe) {
  fs::create_directory(folder_ / "file");
  refused_by_all("file is a folder");
  fs::remove(folder_ / "file");
  ASSERT_EQ(::mkfifo((folder_ / "file").c_str(), 0600), 0);
  refused_by_all("file is not a file");
}

TEST_F(Files, AReplacementGoesThroughNoLinkEither) {
  fs::create_symlink("other", folder_ / "file.partial");
  EXPECT_THROW(files::replace(folder_ / "file", "text"), UserError);
  EXPECT_EQ(text_of("other"), "another's");
  EXPECT_FALSE(fs::exists(folder_ / "file"));
}

TEST_F(Files, ALeftoverOfTheSameNameMakesWay) {
  fs::create_hard_link(folder_ / "other", folder_ / "file.partial");
  files::replace(folder_ / "file", "text");
  EXPECT_EQ(text_of("file"), "text");
  EXPECT_EQ(text_of("other"), "another's");
  EXPECT_EQ(files::read_whole(folder_ / "file", 4), "text");
  EXPECT_EQ(files::read_whole(folder_ / "file", 3), std::nullopt);
}

TEST_F(Files, ReadingTellsTheEndFromAFailure) {
  const FileDescriptor file = files::reopen(folder_ / "other", O_RDONLY);
  std::byte bytes[20];
  EXPECT_EQ(files::read_at(file.get(), 2, bytes), 7);
  EXPECT_EQ(errno, 0);
  EXPECT_EQ(files::read_at(-1, 0, bytes), 0);
  EXPECT_EQ(errno, EBADF);
  EXPECT_FALSE(files::write_at(file.get(), 0, bytes));
}

}  // namespace
}  // namespace koios
