// SentencePiece: a small model trained here, and the real one of tools/setup.sh where it is there.
#include "data/tokenizer.hpp"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "data/bpe_encoder.hpp"
#include "fixtures.hpp"

namespace koios {
namespace {

using testing::TempFolder;
using testing::user_error;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The folder with the real tokenizer.model; empty where it was not fetched.
std::string assets() {
  const char* from_environment = std::getenv("KOIOS_ASSETS");
  const std::string folder = from_environment != nullptr ? from_environment : KOIOS_ASSETS;
  return std::filesystem::exists(folder + "/tokenizer.model") ? folder : "";
}

std::string utf8(std::uint32_t c) {
  const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | (c >> 6)), byte(0x80 | (c & 63))};
  if (c < 0x10000) {
    return {byte(0xE0 | (c >> 12)), byte(0x80 | ((c >> 6) & 63)), byte(0x80 | (c & 63))};
  }
  return {byte(0xF0 | (c >> 18)), byte(0x80 | ((c >> 12) & 63)), byte(0x80 | ((c >> 6) & 63)),
          byte(0x80 | (c & 63))};
}

/// Runs of one script each, of spaces, of one letter, and of any characters at all.
std::string wild_text(std::mt19937& random, int runs) {
  constexpr std::string_view kPlain = "  \t\n\raeiouthnsrdl.,;:=-_\"'()0123ETA";
  constexpr std::uint32_t kScripts[] = {0xA0,   0x370,  0x400,  0x600,  0x900,   0xE00,  0x2000,
                                        0x2580, 0x3040, 0x4E00, 0xAC00, 0x1F600, 0xFFE0, 0x300};
  std::string text;
  for (int run = 0; run < runs; ++run) {
    const auto kind = random() % 6;
    const std::uint32_t script = kScripts[random() % std::size(kScripts)];
    const std::string same = utf8(script + static_cast<std::uint32_t>(random() % 64));
    for (auto i = random() % 40; i > 0; --i) {
      if (kind < 3) text += kPlain[random() % kPlain.size()];
      if (kind == 3) text += utf8(script + static_cast<std::uint32_t>(random() % 100));
      if (kind == 4) text += i % 2 == 0 ? same : "\xE2\x96\x81";
      if (kind == 5) {
        const auto c = static_cast<std::uint32_t>(random() % 0x110000);
        text += utf8(c >= 0xD800 && c < 0xE000 ? c - 0x2000 : c);
      }
    }
  }
  return text;
}

/// Koios' ids are the library's, of many texts.
void expect_library_ids(const std::string& model, int texts) {
  const auto tokenizer = load_sentencepiece(model);
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.Load(model).ok());
  std::mt19937 random(4);
  for (int i = 0; i < texts; ++i) {
    const std::string text = wild_text(random, 1 + i % 12);
    std::vector<int> expected;
    ASSERT_TRUE(library.Encode(text, &expected).ok());
    ASSERT_EQ(tokenizer->encode(text), expected) << text;
  }
}

class SmallModel : public ::testing::Test {
 protected:
  std::string train(const std::string& more = "") const {
    std::string text;
    for (int i = 0; i < 200; ++i) text += cat("the quick brown fox jumps over lazy dog ", i, "\n");
    const auto corpus = folder_.write("corpus.txt", text);
    ::testing::internal::CaptureStderr();
    const auto status = sentencepiece::SentencePieceTrainer::Train(
        // Of an option that is given twice, the first counts.
        cat("--input=", corpus, " --model_prefix=", folder_.path("m"), " ", more,
            " --vocab_size=350 --model_type=bpe --byte_fallback=true --hard_vocab_limit=false"
            " --minloglevel=2 --num_threads=1"));
    ::testing::internal::GetCapturedStderr();
    EXPECT_TRUE(status.ok()) << status.ToString();
    return folder_.path("m.model");
  }
  TempFolder folder_;
};

TEST_F(SmallModel, round_trip_with_bytes_for_what_it_does_not_know) {
  const auto tokenizer = load_sentencepiece(train());
  EXPECT_GT(tokenizer->vocab_size(), 256 + 3);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  for (const std::string text : {"the quick fox", "", "caf\xC3\xA9 \xE2\x82\xAC", "QUX"}) {
    const auto ids = tokenizer->encode(text);
    EXPECT_EQ(tokenizer->decode(ids), text);
    for (const auto id : ids) EXPECT_LT(id, tokenizer->vocab_size());
  }
  EXPECT_LT(tokenizer->encode("the quick brown").size(), 6u);
  EXPECT_THROW(tokenizer->decode(std::vector<std::int32_t>{100000}), InvariantError);
}

/// Whether the model gets Koios' own encoder.
bool is_fast(const std::string& model) {
  const auto contents = parse_sentencepiece_model(read_file(model));
  return contents && BpeEncoder::make(*contents) != nullptr;
}

TEST_F(SmallModel, ids_are_the_librarys_with_and_without_the_encoder_of_our_own) {
  const std::string as_llama =
      " --normalization_rule_name=identity --remove_extra_whitespaces=false "
      "--allow_whitespace_only_pieces=true";
  const std::pair<const char*, bool> cases[] = {
      {"", true},
      {"--add_dummy_prefix=false", true},
      {"--split_by_whitespace=false", true},  // pieces with spaces inside
      {"--user_defined_symbols=quick,<x>", false},
      {"--byte_fallback=false --unk_surface=?", false},
      {"--treat_whitespace_as_suffix=true", false},
      {"--remove_extra_whitespaces=true", false},
      {"--normalization_rule_name=nmt_nfkc", false}};
  for (const auto& [option, fast] : cases) {
    const std::string model = train(cat(option, as_llama));
    EXPECT_EQ(is_fast(model), fast) << option;
    expect_library_ids(model, 200);
  }
}

TEST_F(SmallModel, a_damaged_message_is_no_model) {
  const std::string whole = read_file(train());
  ASSERT_TRUE(parse_sentencepiece_model(whole));
  std::mt19937 random(9);
  for (int i = 0; i < 2000; ++i) {  // must neither crash nor run away
    std::string damaged =
        whole.substr(0, random() % 2 == 0 ? whole.size() : random() % whole.size());
    for (auto flips = random() % 4; flips > 0 && !damaged.empty(); --flips) {
      damaged[random() % damaged.size()] ^= static_cast<char>(1 + random() % 255);
    }
    if (const auto model = parse_sentencepiece_model(damaged)) BpeEncoder::make(*model);
  }
}

TEST_F(SmallModel, a_damaged_map_of_characters_is_refused_or_harmless) {
  const std::string whole = read_file(train("--normalization_rule_name=nmt_nfkc"));
  const auto model = parse_sentencepiece_model(whole);
  ASSERT_TRUE(model && model->has_character_map && model->character_maps_are_sound);
  // Size of the map's field, then its first word, the size of the array, 0 modulo 1024.
  const auto name = whole.find("nmt_nfkc");  // in the normalizer's part
  ASSERT_NE(name, std::string::npos);
  const std::size_t map = name + 8 + 1 + 3;
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    damaged[map + 4 + random() % 200000] ^= static_cast<char>(1 + random() % 255);
    const auto path = folder_.write("damaged.model", damaged);
    try {
      const auto tokenizer = load_sentencepiece(path);
      tokenizer->encode(wild_text(random, 6));
    } catch (const UserError& error) {
      EXPECT_CONTAINS(error.what(), "map of characters is damaged");
      ++refused;
    }
  }
  EXPECT_GT(refused, 20);
}

TEST_F(SmallModel, a_long_text_has_the_ids_of_its_parts) {
  // Many pieces of the encoder of our own, and parts for the library.
  for (const char* kind : {"--normalization_rule_name=identity --remove_extra_whitespaces=false",
                           "--normalization_rule_name=nmt_nfkc"}) {
    const auto tokenizer = load_sentencepiece(train(kind));
    const std::string words = "the quick brown fox jumps over lazy dogs";
    const auto once = tokenizer->encode(words);
    std::string text = words;
    std::vector<std::int32_t> expected = once;
    while (text.size() < 3'000'000) {
      text += " " + words;
      expected.insert(expected.end(), once.begin(), once.end());
    }
    EXPECT_TRUE(tokenizer->encode(text) == expected) << kind;
  }
}

TEST_F(SmallModel, a_letter_without_end_takes_little_memory) {
  const auto tokenizer = load_sentencepiece(
      train("--normalization_rule_name=identity --remove_extra_whitespaces=false "
            "--allow_whitespace_only_pieces=true"));
  const std::string text(8'000'000, 'o');
  testing::forget_peak_memory();
  const auto before = testing::peak_memory_mib();
  const auto ids = tokenizer->encode(text);
  EXPECT_LT(testing::peak_memory_mib() - before,
            160);  // the ids alone are 32 MB; all at once took 500
  EXPECT_EQ(tokenizer->decode(ids), text);
}

TEST_F(SmallModel, is_known_again_by_its_hash) {
  const auto path = train();
  const auto hash = load_sentencepiece(path)->hash();
  EXPECT_EQ(load_sentencepiece(path)->hash(), hash);
  EXPECT_NE(load_sentencepiece(train("--bos_piece=<bos>"))->hash(), hash);
}

TEST_F(SmallModel, missing_or_damaged_files_are_named) {
  const auto error = [](const std::string& path) {
    return user_error([&] { load_sentencepiece(path); });
  };
  EXPECT_CONTAINS(error("/nowhere/tokenizer.model"),
                  "/nowhere/tokenizer.model: the tokenizer model cannot be read");
  const std::string whole = read_file(train());
  const std::pair<std::string, std::string> cases[] = {
      {whole.substr(0, whole.size() / 2), "something else, or damaged"},
      {"", "something else, or damaged (0 bytes)"},
      {"<html>401 Unauthorized</html>", "an HTML page"},
      {"{\"model\": {\"type\": \"BPE\"}}", "JSON"},
      {"IQ== 0\nIg== 1\n", "a tiktoken vocabulary"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "a Git LFS pointer"}};
  for (const auto& [content, kind] : cases) {
    const auto path = folder_.write("damaged.model", content);
    EXPECT_CONTAINS(error(path), path + ": not a SentencePiece model, but " + kind);
  }
  const auto huge = folder_.write("huge.model", "GGUF\x03");
  std::filesystem::resize_file(huge, std::uintmax_t{3} << 30);
  EXPECT_CONTAINS(error(huge),
                  "too many for a SentencePiece model (at most 256 MiB); it is a GGUF");
  EXPECT_CONTAINS(error("/dev/zero"), "is a device, not a file");
}

TEST_F(SmallModel, only_marks_that_are_asked_for_are_needed) {
  const auto without_bos = train("--bos_id=-1");
  EXPECT_CONTAINS(user_error([&] { load_sentencepiece(without_bos); }),
                  "has no bos piece, which data/add_bos = true puts at every document");
  const auto tokenizer = load_sentencepiece(without_bos, {.bos = false, .eos = true});
  const auto ids = encode_document(*tokenizer, {.bos = false, .eos = true}, "a");
  EXPECT_EQ(ids.back(), tokenizer->eos());
  const auto without_eos = train("--eos_id=-1");
  EXPECT_CONTAINS(user_error([&] { load_sentencepiece(without_eos); }), "data/add_eos");
  EXPECT_GE(load_sentencepiece(without_eos, {.bos = true, .eos = false})->bos(), 0);
  const auto without_both = train("--bos_id=-1 --eos_id=-1");
  EXPECT_CONTAINS(user_error([&] { load_sentencepiece(without_both); }),
                  "has neither a bos nor an");
}

TEST(RealModel, ids_are_those_of_the_python_package) {
  if (assets().empty()) GTEST_SKIP() << "no tokenizer.model: run tools/setup.sh";
  const auto tokenizer = load_sentencepiece(assets() + "/tokenizer.model");
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  std::ifstream golden(KOIOS_TOKENIZER_GOLDEN);
  int cases = 0;
  for (std::string line; std::getline(golden, line); ++cases) {
    const auto sample = nlohmann::json::parse(line);
    const auto text = sample["text"].get<std::string>();
    const auto ids = sample["ids"].get<std::vector<std::int32_t>>();
    EXPECT_EQ(tokenizer->encode(text), ids) << text;
    EXPECT_EQ(tokenizer->decode(ids), sample["decoded"].get<std::string>());
  }
  EXPECT_GT(cases, 10);
}

TEST(RealModel, ids_are_the_librarys_whatever_the_text) {
  if (assets().empty()) GTEST_SKIP() << "no tokenizer.model: run tools/setup.sh";
  EXPECT_TRUE(is_fast(assets() + "/tokenizer.model"));
  expect_library_ids(assets() + "/tokenizer.model", 1000);
}

TEST(RealModel, ids_of_a_whole_book_are_those_of_the_python_package) {
  if (assets().empty()) GTEST_SKIP() << "no tokenizer.model: run tools/setup.sh";
  const auto tokenizer = load_sentencepiece(assets() + "/tokenizer.model");
  const std::string text = read_file(assets() + "/kjv.txt");
  std::vector<std::vector<std::int32_t>> ids(3);
  {
    std::vector<std::jthread> threads;
    for (auto& out : ids) threads.emplace_back([&] { out = tokenizer->encode(text); });
  }
  for (const auto& of_thread : ids) EXPECT_EQ(of_thread, ids[0]);
  std::uint64_t digest = 0xCBF29CE484222325ULL;
  for (const std::int32_t id : ids[0]) {
    digest = (digest ^ static_cast<std::uint64_t>(id)) * 0x100000001B3ULL;
  }
  EXPECT_EQ(ids[0].size(), 1103243u);  // make_tokenizer_golden.py MODEL kjv.txt
  EXPECT_EQ(digest, 0x683d39bc3a5bab2eULL);
}

}  // namespace
}  // namespace koios
