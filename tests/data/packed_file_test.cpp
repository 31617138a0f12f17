// Files as gzip, xz, zstd and tar pack them, and what is damaged in them.
#include "data/packed_file.hpp"

#include "data/dataset_files.hpp"
#include "packing_tools.hpp"

namespace koios {
namespace {

using testing::all_documents;
using testing::numbered_documents;
using testing::read_file;
using testing::shell;
using testing::TempFolder;
using testing::user_error;

using Texts = std::vector<std::string>;

Texts texts(DataFormat format, const std::vector<std::string>& files, BadData* bad = nullptr) {
  Texts result;
  for (const Document& d : all_documents(RecordReader(format, files, bad))) {
    if (!d.is_bad) result.push_back(d.text);
  }
  return result;
}

bool has_zstd() { return std::system("zstd --version > /dev/null 2>&1") == 0; }

TEST(PackedFiles, read_as_what_is_in_them) {
  const TempFolder folder;
  const auto plain = folder.write("a.jsonl", numbered_documents(5000, 50));
  const Texts all = texts(DataFormat::jsonl, {plain});
  shell(folder,
        "gzip -k a.jsonl && xz -k a.jsonl && cat a.jsonl.gz a.jsonl.gz > twice.gz && "
        "cat a.jsonl.xz a.jsonl.xz > twice.xz && gzip -c a.jsonl.xz > both.xz.gz && "
        "tar -cf a.tar a.jsonl && tar -czf a.tgz a.jsonl && cp a.jsonl.gz misnamed.jsonl");
  Texts doubled = all;
  doubled.insert(doubled.end(), all.begin(), all.end());
  for (const char* name :
       {"a.jsonl.gz", "a.jsonl.xz", "both.xz.gz", "a.tar", "a.tgz", "misnamed.jsonl"}) {
    EXPECT_EQ(texts(DataFormat::jsonl, {folder.path(name)}), all) << name;
  }
  EXPECT_EQ(texts(DataFormat::jsonl, {folder.path("twice.gz")}), doubled);
  EXPECT_EQ(texts(DataFormat::jsonl, {folder.path("twice.xz")}), doubled);
  if (!has_zstd()) GTEST_SKIP() << "no program zstd";
  shell(folder, "zstd -q a.jsonl && cat a.jsonl.zst a.jsonl.zst > twice.zst");
  EXPECT_EQ(texts(DataFormat::jsonl, {folder.path("a.jsonl.zst")}), all);
  EXPECT_EQ(texts(DataFormat::jsonl, {folder.path("twice.zst")}), doubled);
}

TEST(PackedFiles, archives_of_archives_with_every_place_to_come_back_to) {
  const TempFolder folder;
  testing::make_openwebtext(folder, "urlsf_subset00.tar");
  folder.write("b.txt", "alone");
  const std::vector<std::string> files = {folder.path("urlsf_subset00.tar"), folder.path("b.txt")};
  RecordReader reader(DataFormat::openwebtext, files);
  std::vector<RecordMark> marks = {reader.mark()};
  Texts all;
  for (Document d; reader.next(d); marks.push_back(reader.mark())) all.push_back(d.text);
  const Texts expected = {"Document 0.0\n\nand more",
                          "Document 0.1\n\nand more",
                          "Document 1.0\n\nand more",
                          "Document 1.1\n\nand more",
                          "Document 2.0\n\nand more",
                          "Document 2.1\n\nand more",
                          "alone"};
  EXPECT_EQ(all, expected);
  for (std::size_t i = marks.size(); i-- > 0;) {
    reader.seek(marks[i]);
    Document d;
    ASSERT_EQ(reader.next(d), i < all.size());
    if (i < all.size()) {
      EXPECT_EQ(d.text, all[i]);
      EXPECT_EQ(reader.mark(), marks[i + 1]);
    }
  }
}

TEST(PackedFiles, marks_of_lines_in_a_compressed_archive) {
  const TempFolder folder;
  folder.write("a.jsonl", "\xEF\xBB\xBF" + numbered_documents(40, 9));
  folder.write("b.jsonl", numbered_documents(40, 9));
  shell(folder, "tar -czf ab.tgz a.jsonl b.jsonl");
  RecordReader reader(DataFormat::jsonl, {folder.path("ab.tgz")});
  std::vector<RecordMark> marks = {reader.mark()};
  std::vector<Document> all;
  for (Document d; reader.next(d); marks.push_back(reader.mark())) all.push_back(d);
  ASSERT_EQ(all.size(), 80u);
  EXPECT_EQ(all[45].line, 6);
  EXPECT_EQ(all[45].file, folder.path("ab.tgz") + ": b.jsonl");
  for (std::size_t i = all.size(); i-- > 0;) {
    reader.seek(marks[i]);
    Document d;
    ASSERT_TRUE(reader.next(d));
    EXPECT_EQ(d.text, all[i].text);
    EXPECT_EQ(d.line, all[i].line);
    EXPECT_EQ(reader.mark(), marks[i + 1]);
  }
}

TEST(PackedFiles, archives_of_the_oldest_form_and_those_with_nothing_in_them) {
  const TempFolder folder;
  folder.write("a.txt", "one");
  shell(folder, "tar --format=v7 -cf old.tar a.txt && tar -cf empty.tar -T /dev/null");
  EXPECT_EQ(texts(DataFormat::text, {folder.path("old.tar")}), Texts{"one"});
  for (const auto format : {DataFormat::text, DataFormat::openwebtext}) {
    EXPECT_CONTAINS(user_error([&] { texts(format, {folder.path("empty.tar")}); }),
                    "its name says tar archive, but it is zeros");
  }
}

TEST(PackedFiles, long_names_and_other_members_of_an_archive) {
  const TempFolder folder;
  const std::string deep = "a" + std::string(90, 'x') + "/" + std::string(120, 'y');
  shell(folder, "mkdir -p " + deep);
  folder.write(deep + "/a.txt", "deep");
  folder.write("b.txt", "flat");
  folder.write("._b.txt", "of a Mac");
  folder.write("c.md", "not data");
  folder.write("d.xz", "");
  shell(folder, "ln -s b.txt link.txt; rm d.xz; xz -c b.txt > d.xz");
  for (const char* format : {"gnu", "pax"}) {
    shell(folder, cat("tar --format=", format, " -cf a.tar a* b.txt ._b.txt c.md link.txt d.xz"));
    EXPECT_EQ(texts(DataFormat::text, {folder.path("a.tar")}), (Texts{"deep", "flat", "flat"}))
        << format;
    shell(folder, "rm a.tar");
  }
}

TEST(PackedFiles, archives_one_behind_the_other) {
  const TempFolder folder;
  folder.write("a.jsonl", numbered_documents(20));
  folder.write("b.jsonl", "{\"text\": \"b\"}\n");
  shell(folder,
        "tar -czf a.tgz a.jsonl && tar -czf b.tgz b.jsonl && cat a.tgz b.tgz > ab.tgz && "
        "tar -cf a.tar a.jsonl && tar -cf b.tar b.jsonl && cat a.tar b.tar > ab.tar");
  Texts expected = texts(DataFormat::jsonl, {folder.path("a.jsonl")});
  expected.push_back("b");
  EXPECT_EQ(texts(DataFormat::jsonl, {folder.path("ab.tgz")}), expected);
  EXPECT_EQ(texts(DataFormat::jsonl, {folder.path("ab.tar")}), expected);
}

TEST(PackedFiles, what_lies_behind_the_data_is_warned_of_under_both_policies) {
  const TempFolder folder;
  folder.write("a.jsonl", numbered_documents(20));
  shell(folder,
        "gzip -k a.jsonl && tar -cf a.tar a.jsonl && echo more > more && "
        "cat a.tar more > more.tar && cat a.jsonl.gz more > more.gz && "
        "head -c 700 /dev/zero > zeros && cat a.jsonl.gz zeros > zeros.gz && "
        "cat a.tar zeros > zeros.tar");
  const Texts expected = texts(DataFormat::jsonl, {folder.path("a.jsonl")});
  for (const auto policy : {OnBadData::stop, OnBadData::skip}) {
    BadData bad(policy);
    for (const char* name : {"more.tar", "more.gz"}) {
      EXPECT_EQ(texts(DataFormat::jsonl, {folder.path(name)}, &bad), expected) << name;
      const auto news = bad.take_news();
      ASSERT_EQ(news.notes.size(), 1u);
      EXPECT_CONTAINS(news.notes[0], folder.path(name) + ": what follows ");
      EXPECT_TRUE(news.texts.empty());
    }
    for (const char* name : {"zeros.tar", "zeros.gz"}) {
      EXPECT_EQ(texts(DataFormat::jsonl, {folder.path(name)}, &bad), expected) << name;
      EXPECT_TRUE(bad.take_news().notes.empty()) << name;
    }
  }
}

TEST(PackedFiles, zstd_of_every_kind_of_frame) {
  if (!has_zstd()) GTEST_SKIP() << "no program zstd";
  const TempFolder folder;
  folder.write("a.jsonl", numbered_documents(2000, 50));
  const std::string skippable("\x5a\x2a\x4d\x18\x03\0\0\0abc", 11);
  folder.write("skippable", skippable);
  shell(
      folder,
      "zstd -q --ultra --long=31 a.jsonl -o long.zst && cat a.jsonl | zstd -q --long=31 > wide.zst "
      "&& cat skippable wide.zst skippable > framed.zst");
  const Texts all = texts(DataFormat::jsonl, {folder.path("a.jsonl")});
  for (const char* name : {"long.zst", "wide.zst", "framed.zst"}) {
    EXPECT_EQ(texts(DataFormat::jsonl, {folder.path(name)}), all) << name;
  }
  std::string wider = read_file(folder.path("wide.zst"));
  wider[5] = static_cast<char>(23 << 3);  // a window of 8 GiB
  EXPECT_CONTAINS(user_error([&] { texts(DataFormat::jsonl, {folder.write("wider.zst", wider)}); }),
                  "needs a window of 8192 MiB, more than the 2048 MiB that Koios and zstd read");
}

TEST(Damage, a_name_that_says_packed_and_bytes_that_do_not) {
  const TempFolder folder;
  const std::string html = "<!DOCTYPE html><html>Sign in";
  for (const char* name : {"a.gz", "a.jsonl.xz", "a.zst", "a.tgz", "a.tar"}) {
    const auto file = folder.write(name, html);
    EXPECT_CONTAINS(user_error([&] { texts(DataFormat::text, {file}); }),
                    cat(file, ": its name says "));
    EXPECT_CONTAINS(user_error([&] { texts(DataFormat::text, {file}); }), "but it is an HTML page");
  }
  shell(folder, "echo text | gzip > b.tar.gz && tar -cf c.tar a.gz");
  EXPECT_CONTAINS(user_error([&] { texts(DataFormat::text, {folder.path("b.tar.gz")}); }),
                  "its name says tar archive, but it is none by its first bytes");
  EXPECT_CONTAINS(user_error([&] { texts(DataFormat::text, {folder.path("c.tar")}); }),
                  "c.tar: a.gz: its name says compressed");
}

TEST(Damage, a_pointer_of_git_lfs_is_named_as_what_it_is) {
  const TempFolder folder;
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
  for (const char* name : {"books.txt", "urlsf_subset00.tar", "c4.json.gz"}) {
    EXPECT_CONTAINS(user_error([&] { texts(DataFormat::text, {folder.write(name, pointer)}); }),
                    cat(folder.path(name), ": is a Git LFS pointer, not the file itself"));
  }
  BadData bad(OnBadData::skip);
  EXPECT_EQ(texts(DataFormat::text, {folder.path("books.txt"), folder.write("b.txt", "b")}, &bad),
            Texts{"b"});
  EXPECT_EQ(bad.count(), 1);
  const std::string about = "version https://git-lfs is how a pointer begins\n";
  EXPECT_EQ(texts(DataFormat::text, {folder.write("c.txt", about)}),
            Texts{about.substr(0, about.size() - 1)});
}

TEST(Damage, half_a_file_is_named_and_what_was_whole_is_kept) {
  const TempFolder folder;
  folder.write("a.jsonl", numbered_documents(20000, 50));
  folder.write("last.jsonl", "{\"text\": \"last\"}\n");
  shell(folder, "gzip -k a.jsonl && xz -k a.jsonl && tar -cf a.tar a.jsonl");
  if (has_zstd()) shell(folder, "zstd -q a.jsonl");
  for (const char* name : {"a.jsonl.gz", "a.jsonl.xz", "a.tar", "a.jsonl.zst"}) {
    if (!std::filesystem::exists(folder.path(name))) continue;
    const auto whole = read_file(folder.path(name));
    const auto half = folder.write(cat("half-", name), whole.substr(0, whole.size() / 2));
    const auto message = user_error([&] { texts(DataFormat::jsonl, {half}); });
    EXPECT_CONTAINS(message, half);
    EXPECT_CONTAINS(message, "ends in the middle");
    BadData strict(OnBadData::stop);  // where nothing goes on, nothing is left out
    EXPECT_EQ(user_error([&] { texts(DataFormat::jsonl, {half}, &strict); }), message);
    BadData bad(OnBadData::skip);
    const Texts found = texts(DataFormat::jsonl, {half, folder.path("last.jsonl")}, &bad);
    EXPECT_GT(found.size(), 1000u) << name;
    EXPECT_LT(found.size(), 20000u) << name;
    EXPECT_EQ(found.back(), "last");
    EXPECT_EQ(bad.count(), 1);
    EXPECT_CONTAINS(bad.take_news().texts.at(0), cat("the rest of ", half, " is left out"));
  }
}

TEST(Damage, a_line_that_is_too_long_is_one_bad_record) {
  const TempFolder folder;
  folder.write("first", "{\"text\": \"a\"}\n{\"text\": \"");
  folder.write("last", "\"}\n" + std::string(300'000, ' ') + "\n\n\t\n  {\"text\": \"b\"}\n   {\n");
  shell(folder, "(cat first; head -c 300000000 /dev/zero | tr '\\0' x; cat last) | gzip -1 > a.gz");
  BadData bad(OnBadData::skip);
  RecordReader reader(DataFormat::jsonl, {folder.path("a.gz")}, &bad);
  std::vector<RecordMark> marks;
  Texts found;
  for (Document d; reader.next(d); marks.push_back(reader.mark())) {
    found.push_back(d.is_bad ? "bad" : d.text);
  }
  EXPECT_EQ(found, (Texts{"a", "bad", "b", "bad"}));
  const auto news = bad.take_news();
  EXPECT_CONTAINS(news.texts.at(0), "a.gz:2: a line longer than 256 MiB");
  EXPECT_CONTAINS(news.texts.at(1), "a.gz:7: not valid JSON at byte 5 of the line");
  testing::forget_peak_memory();
  const auto before = testing::peak_memory_mib();
  reader.seek({});
  for (const RecordMark& mark : marks) {
    ASSERT_TRUE(reader.skip());
    EXPECT_EQ(reader.mark(), mark);
  }
  EXPECT_LT(testing::peak_memory_mib() - before, 10);  // nothing is held of what is passed over
}

TEST(Damage, a_bomb_is_left_at_a_thousand_times_its_size) {
  if (!has_zstd()) GTEST_SKIP() << "no program zstd";
  const TempFolder folder;
  shell(folder, "head -c 3000000000 /dev/zero | tr '\\0' '\\n' | zstd -q > a.zst");
  const auto message = user_error([&] { texts(DataFormat::jsonl, {folder.path("a.zst")}); });
  EXPECT_CONTAINS(message, "unpacks to more than 1000 times its size");
}

TEST(Damage, a_flipped_byte_in_a_gzip_is_noticed) {
  const TempFolder folder;
  folder.write("a.jsonl", numbered_documents(3000, 50));
  shell(folder, "gzip a.jsonl");
  std::string bytes = read_file(folder.path("a.jsonl.gz"));
  bytes[bytes.size() - 6] = static_cast<char>(bytes[bytes.size() - 6] ^ 1);  // its checksum
  const auto file = folder.write("b.gz", bytes);
  EXPECT_CONTAINS(user_error([&] { texts(DataFormat::jsonl, {file}); }), "incorrect data check");
}

TEST(Damage, what_is_not_read_says_so) {
  const TempFolder folder;
  const auto error = [&](const char* content) {
    return user_error([&] { texts(DataFormat::text, {folder.write("x.txt", content)}); });
  };
  EXPECT_CONTAINS(error("BZh91AY"), "bzip2");
  EXPECT_CONTAINS(error("PAR1...."), "get_dataset.py convert");
}

TEST(Damage, bad_records_are_counted_once_and_leave_the_others_where_they_were) {
  const TempFolder folder;
  const auto file = folder.write("a.jsonl",
                                 "{\"text\": \"0\"}\n{\"text\": 1}\n{\"text\": \"2\"}\nnonsense\n"
                                 "{\"text\": \"\xFF\"}\n{\"text\": \"5\"}\n");
  BadData bad(OnBadData::skip);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(texts(DataFormat::jsonl, {file}, &bad), (Texts{"0", "2", "5"}));
  }
  EXPECT_EQ(bad.count(), 3);
  EXPECT_EQ(bad.take_news().texts.size(), 3u);
  EXPECT_TRUE(bad.take_news().texts.empty());
  RecordReader reader(DataFormat::jsonl, {file}, &bad);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(reader.skip());
  EXPECT_EQ(reader.mark().record, 5);
  Document d;
  ASSERT_TRUE(reader.next(d));
  EXPECT_EQ(d.text, "5");
}

TEST(Shards, a_missing_one_is_named) {
  const TempFolder folder;
  for (const char* shard : {"00000", "00002", "00003"}) {
    folder.write(cat("c4-train.", shard, "-of-00004.json"), numbered_documents(1));
  }
  const auto message = user_error([&] { find_dataset_files(folder.path(), DataFormat::c4); });
  EXPECT_CONTAINS(message, "1 of 4 files are missing, first c4-train.00001-of-00004.json");
  EXPECT_CONTAINS(message, "c4-train.*-of-00004.json'");
  BadData bad(OnBadData::skip);
  EXPECT_EQ(find_dataset_files(folder.path(), DataFormat::c4, DataSplit::training, &bad).size(),
            3u);
  EXPECT_EQ(bad.count(), 1);
  folder.write("c4-train.00001-of-00004.json", numbered_documents(1));
  const auto held_out = folder.write("c4-validation.00000-of-00001.json", numbered_documents(1));
  EXPECT_EQ(find_dataset_files(folder.path(), DataFormat::c4).size(), 4u);
  EXPECT_EQ(find_dataset_files(folder.path(), DataFormat::c4, DataSplit::validation),
            std::vector<std::string>{held_out});
}

TEST(Shards, one_part_of_c4_is_not_taken_for_the_other) {
  const TempFolder folder;
  folder.write("c4-train.00000-of-00001.json", numbered_documents(1));
  const auto message =
      user_error([&] { find_dataset_files(folder.path(), DataFormat::c4, DataSplit::validation); });
  EXPECT_CONTAINS(message, "without c4-validation.*, only c4-train.*");
  EXPECT_CONTAINS(message, cat("'", folder.path(), "/c4-train.*'"));
  const TempFolder other;
  other.write("mine.json", numbered_documents(1));
  EXPECT_EQ(find_dataset_files(other.path(), DataFormat::c4, DataSplit::validation).size(), 1u);
}

TEST(Shards, a_link_to_nothing_is_named) {
  const TempFolder folder;
  const auto file = folder.write("a.jsonl", numbered_documents(1));
  shell(folder, "ln -s nowhere b.jsonl && ln -s a.jsonl c.jsonl");
  EXPECT_CONTAINS(user_error([&] { find_dataset_files(folder.path(), DataFormat::jsonl); }),
                  "b.jsonl: is a link to a file that is not there");
  BadData bad(OnBadData::skip);
  EXPECT_EQ(find_dataset_files(folder.path(), DataFormat::jsonl, DataSplit::training, &bad).size(),
            2u);
}

TEST(Fingerprint, follows_the_content_and_not_the_folder) {
  const TempFolder one;
  const TempFolder two;
  const std::string text(20000, 'x');
  const auto first = files_fingerprint({one.write("a", text)});
  EXPECT_EQ(files_fingerprint({two.write("a", text)}), first);
  EXPECT_NE(files_fingerprint({two.write("b", text)}), first);
  EXPECT_NE(files_fingerprint({two.write("a", text + "y")}), first);
  EXPECT_NE(files_fingerprint({two.write("a", "y" + text.substr(1))}), first);
  EXPECT_NE(files_fingerprint({two.write("a", text.substr(1) + "y")}), first);
  // Checkpoints hold them.
  EXPECT_EQ(first, 0x8d2486e9c932cc1cU);
  EXPECT_EQ(files_fingerprint({two.write("a", text.substr(0, 5000))}), 0x8f5d2831f1f72ba0U);
  EXPECT_EQ(files_fingerprint({two.write("a", text.substr(0, 700))}), 0x8e6ca54d332e276eU);
}

}  // namespace
}  // namespace koios
