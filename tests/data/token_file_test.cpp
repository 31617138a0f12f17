// Token files: what is written is read, and every kind of damage is named.
#include "data/token_file.hpp"

#include <cstring>
#include <random>

#include "fixtures.hpp"
#include "token_file_fixture.hpp"

namespace koios {
namespace {

using testing::ByteTokenizer;
using testing::TempFolder;
using testing::user_error;
using testing::write_token_file;
using Ids = std::vector<std::int32_t>;

const ByteTokenizer kBytes;

std::vector<Ids> random_documents(int count, int longest) {
  std::mt19937 random(3);
  std::vector<Ids> documents(static_cast<std::size_t>(count));
  for (Ids& ids : documents) {
    ids.resize(1 + random() % static_cast<unsigned>(longest));
    for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % 259);
  }
  return documents;
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class TokenFiles : public ::testing::Test {
 protected:
  /// The error of reading all of a file with these bytes; empty where there is none.
  std::string error_of(const std::string& bytes) const {
    const std::string path = folder_.write("damaged.tokens", bytes);
    try {
      TokenFile file(path);
      file.require_tokenizer(kBytes);
      Ids ids(static_cast<std::size_t>(file.tokens()));
      Ids starts(ids.size());
      file.read(0, ids);
      file.find_document_starts(0, starts);
    } catch (const UserError& error) {
      EXPECT_CONTAINS(error.what(), path);
      return error.what();
    }
    return "";
  }

  TempFolder folder_;
};

TEST_F(TokenFiles, hold_tokens_and_where_documents_begin) {
  const auto documents = random_documents(3000, 90);
  for (const std::uint32_t token_bytes : {2U, 4U}) {
    TokenFile file(write_token_file(folder_.path("a.tokens"), kBytes, documents, token_bytes));
    file.require_tokenizer(kBytes);
    Ids all;
    Ids starts;
    for (const Ids& ids : documents) {
      starts.insert(starts.end(), ids.size(), static_cast<std::int32_t>(all.size()));
      all.insert(all.end(), ids.begin(), ids.end());
    }
    ASSERT_EQ(file.tokens(), std::ssize(all));
    EXPECT_EQ(file.header().documents, 3000);
    std::mt19937 random(6);
    for (int i = 0; i < 300; ++i) {
      const std::size_t size = i == 0 ? all.size() : 1 + random() % 5000;
      const std::size_t first = i == 0 ? 0 : random() % (all.size() - size);
      Ids ids(size);
      Ids found(size);
      file.read(static_cast<std::int64_t>(first), ids);
      file.find_document_starts(static_cast<std::int64_t>(first), found);
      for (std::size_t k = 0; k < size; ++k) {
        ASSERT_EQ(ids[k], all[first + k]);
        const auto start = starts[first + k] - static_cast<std::int32_t>(first);
        ASSERT_EQ(found[k], std::max(start, 0));
      }
    }
  }
}

TEST_F(TokenFiles, a_flipped_byte_is_named_with_its_block) {
  const std::string whole =
      bytes_of(write_token_file(folder_.path("a.tokens"), kBytes, random_documents(4000, 80)));
  ASSERT_EQ(error_of(whole), "");
  const auto flipped = [&](std::size_t at) {
    std::string damaged = whole;
    damaged[at] ^= 0x10;
    return error_of(damaged);
  };
  EXPECT_CONTAINS(flipped(65536 + 100), "block 0 (64 KiB from byte 65536 on) is damaged");
  EXPECT_CONTAINS(flipped(2 * 65536 + 7), "block 1 (64 KiB from byte 131072 on) is damaged");
  EXPECT_CONTAINS(flipped(whole.size() - 5), "section of checksums");
  EXPECT_CONTAINS(flipped(30), "header of this token file is damaged");
  EXPECT_CONTAINS(flipped(2), "not a token file");
  std::mt19937 random(8);
  for (int i = 0; i < 200; ++i) {  // what lies between header and tokens is no one's
    const std::size_t at = random() % (whole.size() - 65536 + 96);
    EXPECT_NE(flipped(at < 96 ? at : at - 96 + 65536), "");
  }
}

TEST_F(TokenFiles, incomplete_foreign_and_lying_files_are_refused) {
  const std::string path =
      write_token_file(folder_.path("a.tokens"), kBytes, random_documents(90, 9));
  const std::string whole = bytes_of(path);
  EXPECT_CONTAINS(error_of(whole.substr(0, whole.size() - 1)), "it is incomplete or was changed");
  EXPECT_CONTAINS(error_of(""), "not a token file");
  EXPECT_CONTAINS(error_of("PAR1 and more of it, long enough to be taken for a header, were it one "
                           "with all of its fields, which it is not"),
                  "not a token file");
  EXPECT_CONTAINS(user_error([&] { TokenFile("/nowhere/a.tokens"); }), "cannot be opened");

  TokenFileHeader header;
  std::memcpy(&header, whole.data(), sizeof header);
  const auto with = [&](TokenFileHeader changed) {  // its checksum is right
    changed.header_checksum = header_checksum(changed);
    std::string bytes = whole;
    std::memcpy(bytes.data(), &changed, sizeof changed);
    return error_of(bytes);
  };
  std::mt19937_64 random(2);
  for (int i = 0; i < 500; ++i) {
    TokenFileHeader changed = header;
    const std::int64_t value = static_cast<std::int64_t>(random() >> (random() % 64));
    std::int64_t* const fields[] = {&changed.tokens, &changed.documents, &changed.documents_at,
                                    &changed.checksums_at, &changed.file_bytes};
    *fields[i % 5] = i % 2 == 0 ? value : -value;
    // Other counts may fit the same sections; they must do no harm.
    const std::string error = with(changed);
    if (i % 5 >= 2) {
      EXPECT_NE(error, "");
    }
  }
  TokenFileHeader changed = header;
  changed.version = 2;
  EXPECT_CONTAINS(with(changed), "version 2");
  changed = header;
  changed.tokenizer_hash = 18;
  EXPECT_CONTAINS(with(changed), "made with another tokenizer");
  changed = header;
  changed.vocab_size = 100;
  EXPECT_CONTAINS(with(changed), "made with another tokenizer");
}

TEST_F(TokenFiles, a_token_beyond_the_vocabulary_is_named) {
  auto documents = random_documents(20, 9);
  documents[3] = {5, 259};
  TokenFile file(write_token_file(folder_.path("a.tokens"), kBytes, documents));
  Ids ids(static_cast<std::size_t>(file.tokens()));
  EXPECT_CONTAINS(user_error([&] { file.read(0, ids); }), "is 259, beyond the vocabulary of 259");
}

TEST_F(TokenFiles, parts_of_another_job_or_unfinished_ones_are_none) {
  const std::string path = folder_.path("0.part");
  {
    TokenPartWriter stopped(path, 7, 2);
    stopped.add(Ids{1, 2, 3});
  }
  EXPECT_FALSE(find_part(path, 7));
  TokenPartWriter writer(path, 7, 2);
  writer.add(Ids{1, 2, 3});
  writer.add(Ids{4});
  writer.finish();
  ASSERT_TRUE(find_part(path, 7));
  EXPECT_EQ(find_part(path, 7)->tokens, 4);
  EXPECT_EQ(find_part(path, 7)->documents, 2);
  EXPECT_FALSE(find_part(path, 8));
}

}  // namespace
}  // namespace koios
