// SentencePiece: a small model trained here, and the real one of tools/setup.sh where it is there.
#include "data/tokenizer.hpp"

#include <sentencepiece_trainer.h>

#include <nlohmann/json.hpp>

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

class SmallModel : public ::testing::Test {
 protected:
  std::string train(const std::string& more = "") const {
    std::string text;
    for (int i = 0; i < 200; ++i) text += cat("the quick brown fox jumps over lazy dog ", i, "\n");
    const auto corpus = folder_.write("corpus.txt", text);
    ::testing::internal::CaptureStderr();
    const auto status = sentencepiece::SentencePieceTrainer::Train(
        cat("--input=", corpus, " --model_prefix=", folder_.path("m"),
            " --vocab_size=350 --model_type=bpe --byte_fallback=true --hard_vocab_limit=false"
            " --minloglevel=2 --num_threads=1 ",
            more));
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
  for (const std::string& damaged : {whole.substr(0, whole.size() / 2), std::string(),
                                     std::string("<html>401 Unauthorized</html>")}) {
    const auto path = folder_.write("damaged.model", damaged);
    EXPECT_CONTAINS(error(path), path + ": not a SentencePiece model, or damaged");
  }
  EXPECT_CONTAINS(error(train("--bos_id=-1")), "has no bos piece");
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

}  // namespace
}  // namespace koios
