// Files written and read by 1, 2 and 4 ranks, with slices cut by rows and by columns.
#include "checkpoint/checkpoint_file.hpp"

#include <gtest/gtest.h>
#include <mpi.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>

#include "checkpoint/checkpoint_reader.hpp"
#include "core/error.hpp"
#include "core/random.hpp"
#include "runtime/mpi_env.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;

struct Whole {
  std::string name;
  std::int64_t rows, cols;
  bool is_vector;
  DType type = DType::float32;
};
const std::vector<Whole> kArrays = {{"model/a.weight", 37, 20, false},
                                    {"model/b.weight", 5, 300, false},
                                    {"model/narrow.weight", 3, 2, false},
                                    {"model/norm.weight", 48, 1, true},
                                    {"optimizer/exp_avg/a.weight", 37, 20, false},
                                    {"optimizer/exp_avg/none.weight", 0, 4, false}};

float value_at(const Whole& array, std::int64_t index) {
  return static_cast<float>(
      normal_at(1, stream_of(array.name), static_cast<std::uint64_t>(index), 9));
}

/// This rank's share, in the order of the ranks.
Range part(std::int64_t extent, const RankGroup& ranks) {
  const std::int64_t first = extent * ranks.rank() / ranks.size();
  return {first, extent * (ranks.rank() + 1) / ranks.size() - first};
}

float* values_of(const SavedArray& array) { return static_cast<float*>(array.values.data); }

enum class Cut { rows, columns, all_hold_all };
constexpr WriteMethod kMethods[] = {WriteMethod::direct, WriteMethod::parallel_hdf5};

/// This rank's slices of all arrays, filled or not.
class Slices {
 public:
  Slices(const RankGroup& ranks, Cut cut, bool filled, DType type = DType::float32) {
    for (const Whole& w : kArrays) {
      SavedArray a{.name = w.name,
                   .type = type,
                   .is_vector = w.is_vector,
                   .rows = w.rows,
                   .cols = w.cols,
                   .here = {{0, w.rows}, {0, w.cols}}};
      if (cut == Cut::rows || (cut == Cut::columns && w.is_vector)) {
        a.here.rows = part(w.rows, ranks);
      } else if (cut == Cut::columns) {
        a.here.cols = part(w.cols, ranks);
      } else {
        a.is_owner = ranks.rank() == ranks.size() - 1;
      }
      memory_.emplace_back(static_cast<std::size_t>(a.here.size()), -1.0F);
      a.values = any(make_ref(memory_.back().data(), a.here.size()));
      arrays.push_back(a);
      if (filled) each(w, a, [&](float& at, std::int64_t index) { at = value_at(w, index); });
    }
  }

  void expect_values() const {
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      each(kArrays[i], arrays[i], [&](float& at, std::int64_t index) {
        ASSERT_EQ(at, value_at(kArrays[i], index)) << kArrays[i].name << " " << index;
      });
    }
  }

  std::vector<SavedArray> arrays;

 private:
  static void each(const Whole& w, const SavedArray& a,
                   const std::function<void(float&, std::int64_t)>& visit) {
    const auto& [rows, cols] = a.here;
    for (std::int64_t r = 0; r < rows.count; ++r) {
      for (std::int64_t c = 0; c < cols.count; ++c) {
        visit(values_of(a)[r * cols.count + c], (rows.first + r) * w.cols + cols.first + c);
      }
    }
  }
  std::vector<std::vector<float>> memory_;
};

CheckpointHead some_head() {
  CheckpointHead head;
  head.root = {{"deck", std::string(300, 'd')},
               {"kind", "checkpoint"},
               {"format_version", std::int64_t{1}},
               {"empty", ""}};
  head.train_state = {{"step", std::int64_t{-7}}};
  head.arrays = {{"data_state/position", {3}, std::vector<std::int64_t>{1, -2, 1LL << 60}},
                 {"train_state/loss_history", {1, 2}, std::vector<double>{0.1, -INFINITY}}};
  return head;
}

class CheckpointFile : public ::testing::Test {
 protected:
  CheckpointFile() {
    const int number = getpid();
    folder_ = fs::temp_directory_path() /
              ("koios-checkpoint-" + ranks_.broadcast(std::to_string(number)));
    ranks_.on_root([&] { fs::create_directories(folder_); });
  }
  ~CheckpointFile() override {
    MPI_Barrier(MPI_COMM_WORLD);
    if (ranks_.is_root()) fs::remove_all(folder_);
  }
  fs::path path() const { return folder_ / "step_00000001.h5"; }
  void write(Cut cut, WriteMethod method = WriteMethod::direct) {
    Slices slices(ranks_, cut, true);
    write_checkpoint(ranks_, path(), some_head(), slices.arrays, access_, {.method = method});
  }
  /// What reading it throws; empty where it reads whole and right.
  std::string problem(const RankGroup& ranks) {
    try {
      const CheckpointReader reader(ranks, path());
      Slices slices(ranks, Cut::rows, false);
      reader.read(slices.arrays, access_);
      if (reader.head() != some_head()) return "SILENTLY another head";
      slices.expect_values();
      return HasFatalFailure() ? "SILENTLY other values" : "";
    } catch (const UserError& error) {
      return error.what();
    }
  }

  int argc_ = 0;
  char** argv_ = nullptr;
  const MpiEnv ranks_{argc_, argv_};
  HostAccess access_;
  fs::path folder_;
};

TEST_F(CheckpointFile, any_split_reads_what_any_split_wrote) {
  for (const WriteMethod method : kMethods) {
    for (const Cut cut : {Cut::rows, Cut::columns, Cut::all_hold_all}) {
      write(cut, method);
      EXPECT_FALSE(fs::exists(path().string() + ".partial"));
      for (const Cut other : {Cut::rows, Cut::columns, Cut::all_hold_all}) {
        const CheckpointReader reader(ranks_, path());
        EXPECT_EQ(reader.head(), some_head());
        Slices slices(ranks_, other, false);
        reader.read(slices.arrays, access_);
        slices.expect_values();
      }
    }
  }
}

/// 40 MB, of which the last rank has most: several blocks and pieces, not as many on each rank.
TEST_F(CheckpointFile, slices_of_many_blocks) {
  constexpr std::int64_t kCols = 1000;
  SavedArray array{.name = "model/large.weight", .rows = 10000, .cols = kCols};
  array.here = {{10 * ranks_.rank(), 10}, {0, kCols}};
  if (ranks_.rank() + 1 == ranks_.size()) array.here.rows.count = 10000 - 10 * ranks_.rank();
  std::vector<float> values(static_cast<std::size_t>(array.here.size()));
  std::iota(values.begin(), values.end(), static_cast<float>(array.here.rows.first * kCols));
  for (const WriteMethod method : kMethods) {
    array.values = any(make_ref(values.data(), array.here.size()));
    write_checkpoint(ranks_, path(), {}, {{array}}, access_, {.method = method});
    SavedArray columns = array;
    const Range cols = part(kCols, ranks_);
    columns.here = {{0, array.rows}, cols};
    std::vector<float> read(static_cast<std::size_t>(columns.here.size()));
    columns.values = any(make_ref(read.data(), columns.here.size()));
    CheckpointReader(ranks_, path()).read({{columns}}, access_);
    for (std::int64_t i = 0; i < columns.here.size(); ++i) {
      const std::int64_t element = i / cols.count * kCols + cols.first + i % cols.count;
      ASSERT_EQ(read[static_cast<std::size_t>(i)], static_cast<float>(element));
    }
  }
}

TEST_F(CheckpointFile, narrow_types_are_converted_both_ways) {
  for (const DType type : {DType::float16, DType::bfloat16}) {
    for (const WriteMethod method : kMethods) {
      Slices slices(ranks_, Cut::rows, true, type);
      write_checkpoint(ranks_, path(), {}, slices.arrays, access_, {.method = method});
      Slices read(ranks_, Cut::rows, false);
      CheckpointReader(ranks_, path()).read(read.arrays, access_);
      const float bound = type == DType::float16 ? 0x1p-11F : 0x1p-8F;
      for (std::size_t i = 0; i < read.arrays.size(); ++i) {
        for (std::int64_t k = 0; k < read.arrays[i].here.size(); ++k) {
          const float exact = values_of(slices.arrays[i])[k];
          ASSERT_LE(std::abs(values_of(read.arrays[i])[k] - exact),
                    bound * std::abs(exact) + 0x1p-25F);
        }
      }
    }
  }
}

/// From float32 in memory to bfloat16 and the other way; what has the file's type keeps its bits.
TEST_F(CheckpointFile, values_in_bfloat16_are_saved_as_they_are_and_load_from_any_type) {
  constexpr std::int64_t kRows = 50, kCols = 300;
  const SavedArray form{.name = "optimizer/exp_avg/a.weight",
                        .rows = kRows,
                        .cols = kCols,
                        .here = {part(kRows, ranks_), {0, kCols}}};
  const auto count = static_cast<std::size_t>(form.here.size());
  const auto wide_at = [&](std::size_t i) {
    return value_at({form.name, kRows, kCols, false},
                    form.here.rows.first * kCols + static_cast<std::int64_t>(i));
  };
  std::vector<float> wide(count);
  std::vector<bf16> narrow(count);
  for (std::size_t i = 0; i < count; ++i) {
    wide[i] = wide_at(i);
    narrow[i].bits = static_cast<std::uint16_t>(0x9e37U * i);  // NaNs and infinities among them
  }
  const auto of = [&](auto& memory) {
    SavedArray array = form;
    array.values = any(make_ref(memory.data(), form.here.size()));
    array.type = array.values.dtype;
    return array;
  };
  for (const WriteMethod method : kMethods) {
    write_checkpoint(ranks_, path(), {}, {{of(narrow)}}, access_, {.method = method});
    std::vector<bf16> same(count);
    std::vector<float> widened(count);
    const CheckpointReader reader(ranks_, path());
    EXPECT_EQ(reader.type_of(form.name), DType::bfloat16);
    reader.read({{of(same)}}, access_);
    reader.read({{of(widened)}}, access_);
    write_checkpoint(ranks_, path(), {}, {{of(wide)}}, access_, {.method = method});
    std::vector<bf16> rounded(count);
    CheckpointReader(ranks_, path()).read({{of(rounded)}}, access_);
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(same[i].bits, narrow[i].bits);
      const auto want = static_cast<std::uint32_t>(narrow[i].bits) << 16;
      ASSERT_EQ(__builtin_bit_cast(std::uint32_t, widened[i]), want);
      ASSERT_EQ(rounded[i].bits, bf16(wide_at(i)).bits);
    }
  }
}

TEST_F(CheckpointFile, failures_of_one_rank_reach_all_and_leave_nothing) {
  struct Failing : HostAccess {
    bool fails = false;
    const void* fetch(const AnyRef& values) override {
      if (fails) throw UserError("the copy failed");
      return values.data;
    }
  } access;
  write(Cut::rows);
  const Slices slices(ranks_, Cut::rows, true);
  access.fails = ranks_.rank() == ranks_.size() - 1;
  const fs::path other = folder_ / "step_00000002.h5";
  for (const WriteMethod method : kMethods) {
    EXPECT_THROW(write_checkpoint(ranks_, other, {}, slices.arrays, access, {.method = method}),
                 UserError);
    MPI_Barrier(MPI_COMM_WORLD);
    EXPECT_FALSE(fs::exists(other) || fs::exists(other.string() + ".partial"));
    MPI_Barrier(MPI_COMM_WORLD);  // before the next makes it again
  }
  EXPECT_THROW(CheckpointReader(ranks_, folder_ / "none.h5"), UserError);
  EXPECT_EQ(problem(ranks_), "");
}

TEST_F(CheckpointFile, other_shapes_and_missing_arrays_are_named) {
  write(Cut::rows);
  const CheckpointReader reader(ranks_, path());
  const auto message = [&](SavedArray array) {
    std::vector<float> memory(4096);
    array.values = any(make_ref(memory.data(), array.here.size()));
    try {
      reader.read({{array}}, access_);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  SavedArray array{.name = "model/a.weight", .rows = 36, .cols = 20, .here = {{0, 0}, {0, 20}}};
  EXPECT_NE(message(array).find("/model/a.weight has another shape"), std::string::npos);
  array.name = "model/c.weight";
  EXPECT_NE(message(array).find("no dataset /model/c.weight"), std::string::npos);
}

/// Rank 0 alone: HDF5 is asked to read thousands of damaged files.
TEST_F(CheckpointFile, no_flipped_bit_goes_unseen) {
  write(Cut::rows);
  if (ranks_.size() > 1) return;
  std::ifstream in(path(), std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(in), {}};
  std::int64_t refused = 0;
  std::int64_t harmless = 0;
  std::fstream file(path(), std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](std::size_t at, char byte) {
    file.seekp(static_cast<std::streamoff>(at)).put(byte).flush();
  };
  for (std::size_t at = 0; at + 1 < good.size();
       at += good[at] == 0 && good[at + 1] == 0 ? 11 : 3) {
    put(at, static_cast<char>(good[at] ^ (1 << (at % 8))));
    const std::string text = problem(ranks_);
    put(at, good[at]);
    ASSERT_EQ(text.find("SILENTLY"), std::string::npos) << "byte " << at << ": " << text;
    ++(text.empty() ? harmless : refused);
  }
  std::printf("%zu bytes: %ld flips refused, %ld in bytes that nothing uses\n", good.size(),
              static_cast<long>(refused), static_cast<long>(harmless));
  EXPECT_GT(refused, 1000);
}

TEST_F(CheckpointFile, truncated_files_are_refused) {
  write(Cut::rows);
  ranks_.on_root([&] { fs::resize_file(path(), fs::file_size(path()) - 1); });
  EXPECT_NE(problem(ranks_), "");
  ranks_.on_root([&] { fs::resize_file(path(), 0); });
  EXPECT_NE(problem(ranks_), "");
}

}  // namespace
}  // namespace koios
