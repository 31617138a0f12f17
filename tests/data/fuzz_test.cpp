// Whatever a foreign file holds, reading it ends: with documents, or with one clear error. Files of
// every format and packing are damaged in seeded ways, hundreds of times; built with
// -fsanitize=address,undefined it also shows that no byte is touched that should not be.
#include <cstring>

#include "core/random.hpp"
#include "data/token_file.hpp"
#include "packing_tools.hpp"
#include "token_file_fixture.hpp"

namespace koios {
namespace {

using testing::read_file;
using testing::shell;
using testing::TempFolder;

constexpr std::int64_t kManyTokens = 100000;

/// A deterministic source of small numbers.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : seed_(seed) {}
  std::size_t below(std::size_t limit) {
    return limit == 0 ? 0 : mix64(seed_ + ++count_ * 0x9E3779B97F4A7C15ULL) % limit;
  }

 private:
  std::uint64_t seed_;
  std::uint64_t count_ = 0;
};

std::string mutate(std::string bytes, Dice& dice) {
  const std::string_view interesting = std::string_view("\0\xFF\x80[]{}\",\\\n7z\x1f\x8b", 15);
  for (std::size_t changes = 1 + dice.below(4); changes > 0 && !bytes.empty(); --changes) {
    const std::size_t at = dice.below(bytes.size());
    const std::size_t size = 1 + dice.below(std::min<std::size_t>(64, bytes.size() - at));
    switch (dice.below(7)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << dice.below(8)));
        break;
      case 1:
        bytes[at] = interesting[dice.below(interesting.size())];
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, size);
        break;
      case 4:
        bytes.insert(dice.below(bytes.size()), bytes.substr(at, size));
        break;
      case 5:
        bytes.replace(at, size, std::string(size, interesting[dice.below(interesting.size())]));
        break;
      default:  // sizes and checksums are often in the first bytes
        bytes[dice.below(std::min<std::size_t>(600, bytes.size()))] =
            static_cast<char>(dice.below(256));
    }
  }
  return bytes;
}

/// Reads all of a file under both policies; the records that are passed over must be as many.
void read_both_ways(DataFormat format, const std::string& file) {
  try {
    RecordReader strict(format, {file});
    for (Document d; strict.next(d);) {
    }
  } catch (const UserError& error) {
    ASSERT_NE(std::string_view(error.what()).find(file), std::string::npos) << error.what();
    ASSERT_LT(std::string_view(error.what()).size(), 1000u);
  }
  BadData bad(OnBadData::skip);
  RecordReader lenient(format, {file}, &bad);
  for (Document d; lenient.next(d);) {
  }
  RecordReader passing(format, {file}, &bad);
  while (passing.skip()) {
  }
  ASSERT_EQ(passing.mark(), lenient.mark());
}

void fuzz(DataFormat format, const std::string& original, int rounds) {
  const TempFolder folder;
  Dice dice(static_cast<std::uint64_t>(original.size()));
  for (int round = 0; round < rounds; ++round) {
    const auto file = folder.write("fuzzed", mutate(original, dice));
    read_both_ways(format, file);
    if (::testing::Test::HasFatalFailure()) {
      std::filesystem::copy_file(file, "fuzzed.keep",
                                 std::filesystem::copy_options::overwrite_existing);
      FAIL() << "round " << round << " of " << to_string(format) << "; see fuzzed.keep";
    }
  }
}

TEST(Fuzz, lines_and_arrays) {
  fuzz(DataFormat::jsonl, testing::numbered_documents(8, 9), 500);
  fuzz(DataFormat::text, "one\ntwo\n\nthree \xE2\x82\xAC\r\n\nfour\n", 200);
  fuzz(DataFormat::openwebtext, "a\n\n\n\nb", 100);
  fuzz(DataFormat::alpaca,
       R"([{"instruction": "a \" \\ b", "input": "", "output": "c"},
 {"instruction": "d", "input": "e", "output": "f", "more": [1, {"x": []}]}])",
       500);
}

TEST(Fuzz, compressed_files_and_archives) {
  const TempFolder folder;
  folder.write("a.jsonl", testing::numbered_documents(60, 30));
  shell(folder,
        "gzip -kn a.jsonl && xz -k a.jsonl && tar --mtime=@0 -cf a.tar a.jsonl && "
        "tar --mtime=@0 -cf pax.tar --format=pax a.jsonl");
  for (const char* name : {"a.jsonl.gz", "a.jsonl.xz", "a.tar", "pax.tar"}) {
    fuzz(DataFormat::jsonl, read_file(folder.path(name)), 200);
  }
  if (std::system("zstd --version > /dev/null 2>&1") == 0) {
    shell(folder, "zstd -q a.jsonl");
    fuzz(DataFormat::jsonl, read_file(folder.path("a.jsonl.zst")), 200);
  }
  testing::make_openwebtext(folder, "owt.tar");
  fuzz(DataFormat::openwebtext, read_file(folder.path("owt.tar")), 150);
}

/// Puts the checksums right again after the bytes were changed, as somebody could who means harm:
/// then nothing but the values themselves stands between the file and the reader.
std::string forge(std::string bytes, bool lays_out) {
  TokenFileHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (lays_out) {
    lay_out(header);
    bytes.resize(static_cast<std::size_t>(header.file_bytes));
  }
  const auto part = [&](std::int64_t at, std::int64_t size) {
    return std::as_writable_bytes(std::span(bytes))
        .subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(size));
  };
  constexpr std::int64_t kBlock = TokenFileHeader::kBlockBytes;
  const std::int64_t blocks = header.checksums_at / kBlock - 1;
  for (std::int64_t i = 0; i < blocks; ++i) {
    const std::uint64_t sum = checksum(part((i + 1) * kBlock, kBlock));
    std::memcpy(part(header.checksums_at + 8 * i, 8).data(), &sum, 8);
  }
  header.contents_checksum = checksum(part(header.checksums_at, 8 * blocks));
  header.header_checksum = header_checksum(header);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

void read_token_file(const std::string& path) {
  try {
    TokenFile file(path);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(std::min(file.tokens(), kManyTokens)));
    file.read(0, ids);
    file.find_document_starts(0, ids);
    const std::int64_t last = file.tokens() - std::ssize(ids);
    file.read(last, ids);
    file.find_document_starts(last, ids);
  } catch (const UserError& error) {
    ASSERT_NE(std::string_view(error.what()).find(path), std::string::npos) << error.what();
  }
}

TEST(Fuzz, token_files) {
  const TempFolder folder;
  const testing::ByteTokenizer bytes;
  Dice dice(3);
  std::vector<std::vector<std::int32_t>> documents(300);
  for (auto& ids : documents) {
    ids.resize(1 + dice.below(40));
    for (std::int32_t& id : ids) id = static_cast<std::int32_t>(dice.below(259));
  }
  const std::string whole =
      read_file(testing::write_token_file(folder.path("whole.tokens"), bytes, documents));
  const std::string head = whole.substr(0, sizeof(TokenFileHeader));
  for (int round = 0; round < 150; ++round) {
    const std::string body = whole.substr(head.size());
    read_token_file(folder.write("a.tokens", mutate(head, dice) + body));
    // The values alone: ids, beginnings of documents, counts.
    std::string forged = whole;
    TokenFileHeader header;
    std::memcpy(&header, forged.data(), sizeof header);
    const std::int64_t section = round % 2 == 0 ? header.documents_at : header.kBlockBytes;
    for (std::size_t i = 0; i < 8; ++i) {
      forged[static_cast<std::size_t>(section) + dice.below(2000)] =
          static_cast<char>(dice.below(256));
    }
    read_token_file(folder.write("b.tokens", forge(forged, false)));
    (round % 2 == 0 ? header.tokens : header.documents) =
        static_cast<std::int64_t>(dice.below(20000));
    std::memcpy(forged.data(), &header, sizeof header);
    read_token_file(folder.write("c.tokens", forge(forged, true)));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace koios
