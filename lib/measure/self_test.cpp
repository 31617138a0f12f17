#include "measure/self_test.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <tuple>

#include "comm/host_reduce.hpp"
#include "comm/verdict.hpp"
#include "core/error.hpp"
#include "core/free_memory.hpp"
#include "core/integers.hpp"
#include "core/stopwatch.hpp"
#include "kernels/attention.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/gemm.hpp"
#include "measure/clock_offset.hpp"
#include "runtime/arena.hpp"
#include "runtime/file.hpp"
#include "runtime/stream.hpp"

namespace koios {
namespace {

// Ranks differ by a few percent in what they compute, by more in what they share.
constexpr double kLeastGemm = 0.8;
constexpr double kLeastAllReduce = 0.7;
constexpr double kLeastMemory = 0.5;
constexpr double kLeastWrite = 0.3;
constexpr double kMostClockOffset_s = 0.1;  // metrics and logs of ranks still lie in order

constexpr double kRound_s = 0.1;         // of one measured round at least
constexpr double kHotRound_s = 0.4;      // of products: a GPU that is cold is faster
constexpr double kKernelsOfCopy = 0.93;  // kernels that the memory limits, of a copy's rate
constexpr int kRounds = 5;               // of which the median counts
constexpr std::int64_t kWritten = std::int64_t{64} << 20;
constexpr std::int64_t kCopied = std::int64_t{128} << 20;

class SelfTest {
 public:
  SelfTest(const MpiEnv& mpi, const Mesh& mesh, Backend backend)
      : mpi_(mpi),
        mesh_(mesh),
        backend_(backend),
        stream_(backend, "self-test"),
        hosts_(mpi.all_gather(mpi.host())) {
    report_.rates.name = "this machine";
  }

  template <class T>
  void products() {
    const std::int64_t n = backend_ == Backend::cuda ? 8192 : 1024;
    const std::int64_t workspace_bytes = MathHandles::gemm_workspace_bytes(backend_);
    const auto take = [&](Arena& arena) {
      return std::tuple{arena.take<T>("matrix", n, n), arena.take<T>("matrix", n, n),
                        arena.take<T>("matrix", n, n), arena.take<float>("normals", n * n),
                        arena.take<std::byte>("workspace", workspace_bytes)};
    };
    Arena planner = Arena::planner(backend_);
    take(planner);
    Arena arena(backend_, planner.taken());
    const auto [y, x, w, normals, workspace] = take(arena);
    fill_normals(x, normals);
    fill_normals(w, normals);
    MathHandles math(backend_, {}, workspace);
    const double seconds = seconds_of(
        [&, y = y, x = x, w = w] { linear_forward<T>(math, stream_, y, x, w); }, kHotRound_s);
    const double flops = 2.0 * static_cast<double>(n) * static_cast<double>(n * n);
    report_.rates.compute = dtype_of<T>;
    report_.rates.gemm =
        1e12 * add({.name = cat("GEMM ", n, " x ", n, " x ", n, ", ", to_string(dtype_of<T>)),
                    .unit = "TFLOP/s",
                    .bound = kLeastGemm},
                   flops / seconds * 1e-12);
  }

  /// As a rank of a 7B model has it; on the host a small one.
  template <class T>
  void attention() {
    const bool is_gpu = backend_ == Backend::cuda;
    const AttentionShape shape = {.batch = 1,
                                  .seq_len = is_gpu ? 4096 : 512,
                                  .heads = is_gpu ? 32 : 8,
                                  .kv_heads = is_gpu ? 32 : 8,
                                  .head_dim = is_gpu ? 128 : 64};
    const std::int64_t columns = shape.heads * shape.head_dim;
    const std::int64_t bytes = attention_workspace_bytes(backend_, {}, shape, sizeof(T));
    const auto take = [&](Arena& arena) {
      std::array<Ref<T, 2>, 8> matrices;
      for (Ref<T, 2>& m : matrices) m = arena.take<T>("matrix", shape.seq_len, columns);
      return std::tuple{matrices, arena.take<float>("statistics", shape.heads * shape.seq_len),
                        arena.take<float>("normals", shape.seq_len * columns),
                        arena.take<std::byte>("workspace", bytes)};
    };
    Arena planner = Arena::planner(backend_);
    take(planner);
    const std::int64_t gemm_bytes = MathHandles::gemm_workspace_bytes(backend_);
    planner.take<std::byte>("library workspace", gemm_bytes);
    Arena arena(backend_, planner.taken());
    const auto [matrices, lse, normals, workspace] = take(arena);
    MathHandles math(backend_, {}, arena.take<std::byte>("library workspace", gemm_bytes));
    const auto& [q, k, v, o, d_o, dq, dk, dv] = matrices;
    for (const Ref<T, 2>& m : {q, k, v, d_o}) fill_normals(m, normals);
    const double half = 2.0 * static_cast<double>(columns) *
                        static_cast<double>(shape.seq_len * shape.seq_len);  // of the matrix
    report_.rates.attention_tokens = is_gpu ? kGpuAttentionTokens : 0;
    const double to_long = 1 + report_.rates.attention_tokens / static_cast<double>(shape.seq_len);
    const auto name = [&](const char* pass) {
      return cat("attention ", pass, ", ", shape.seq_len, " tokens, ", shape.heads, " heads");
    };
    const double forward = seconds_of([&, o = o, lse = lse, q = q, k = k, v = v, w = workspace] {
      attention_forward<T>(math, stream_, shape, o, lse, q, k, v, w);
    });
    report_.rates.attention_forward =
        to_long * 1e12 *
        add({.name = name("forward"), .unit = "TFLOP/s", .bound = kLeastGemm},
            half / forward * 1e-12);
    const double backward = seconds_of([&, o = o, lse = lse, q = q, k = k, v = v, d_o = d_o,
                                        dq = dq, dk = dk, dv = dv, w = workspace] {
      attention_backward<T>(math, stream_, shape, dq, dk, dv, d_o, o, lse, q, k, v, w);
    });
    report_.rates.attention_backward =
        to_long * 1e12 *
        add({.name = name("backward"), .unit = "TFLOP/s", .bound = kLeastGemm},
            2.5 * half / backward * 1e-12);
  }

  void device_memory() {
    const std::int64_t rows = backend_ == Backend::cuda ? 8192 : 1024;
    constexpr std::int64_t kColumns = 8192;
    const auto take = [&](Arena& arena) {
      return std::array{arena.take<float>("matrix", rows, kColumns),
                        arena.take<float>("matrix", rows, kColumns)};
    };
    Arena planner = Arena::planner(backend_);
    take(planner);
    Arena arena(backend_, planner.taken());
    const auto [to, from] = take(arena);
    const double seconds =
        seconds_of([&, to = to, from = from] { copy_matrix<float>(stream_, to, from); });
    const double bytes = 2.0 * sizeof(float) * static_cast<double>(rows * kColumns);
    report_.rates.memory = kKernelsOfCopy * 1e9 *
                           add({.name = "memory of the device, copied by a kernel",
                                .unit = "GB/s",
                                .bound = kLeastMemory},
                               bytes / seconds * 1e-9);
  }

  void all_reduces() {
    const std::int64_t elements = backend_ == Backend::cuda ? 16 << 20 : 1 << 20;
    Arena planner = Arena::planner(backend_);
    planner.take<float>("array", elements);
    Arena arena(backend_, planner.taken());
    const auto array = arena.take<float>("array", elements);
    using enum Axis;
    const MeshShape& shape = mesh_.shape();
    const auto measure = [&](const char* axis, Communicator& group, int number) {
      if (group.size() == 1) return;
      const double seconds =
          seconds_of([&] { group.all_reduce(any(array), ReduceOp::max, stream_); });
      const double sent =
          2.0 * (group.size() - 1) / group.size() * static_cast<double>(elements) * sizeof(float);
      Measurement m{
          .name = cat("all-reduce ", axis, ", ", elements * std::int64_t{sizeof(float)} >> 20,
                      " MiB over ", group.size()),
          .unit = "GB/s",
          .bound = kLeastAllReduce};
      for (const double of_rank : on_all_ranks(number)) {
        m.group_of_rank.push_back(static_cast<int>(of_rank));
      }
      const int on_node = on_first_node(m.group_of_rank);
      const double rate = 1e9 * add(std::move(m), sent / seconds * 1e-9);
      if (on_node == group.size()) {
        report_.rates.collective = rate;
      } else {  // the links of all of them carry what enters the node
        report_.rates.between_nodes = rate / on_node;
      }
    };
    const int rank = mesh_.rank();
    measure("tp", mesh_.tp(), shape.group_of(rank, {tp}));
    measure("context", mesh_.context(), shape.group_of(rank, {cp}));
    measure("shard", mesh_.shard_reduce(), shape.group_of(rank, {dp_shard, cp}));
    measure("replicate", mesh_.replicate(), shape.group_of(rank, {dp_replicate}));
    measure("all ranks", mesh_.world(), 0);
  }

  void host_memory() {
    const FreeMemory free = free_host_memory();
    add({.name = cat("free ", free.of, " of the node"), .unit = "GiB", .bound = kLeastMemory},
        static_cast<double>(free.bytes) / (1 << 30));
    std::vector<char> from(kCopied, 1), to(kCopied, 2);
    std::array<double, kRounds> seconds{};
    barrier(mesh_.host_world());
    for (double& s : seconds) {
      const Stopwatch watch;
      std::memcpy(to.data(), from.data(), to.size());
      s = watch.seconds();
      std::swap(from, to);
    }
    add({.name = "host memory, copied by one thread", .unit = "GB/s", .bound = kLeastMemory},
        2.0 * kCopied / median(seconds) * 1e-9);
  }

  void clocks() {
    add({.name = "clock, ahead of rank 0's",
         .unit = "ms",
         .kind = Measurement::Kind::offset,
         .bound = kMostClockOffset_s * 1e3},
        clock_offset_s() * 1e3);
  }

  void writes(const std::filesystem::path& folder) {
    const auto file = [&](int rank) { return folder / cat(".self_test.", rank); };
    bool is_well = all_do([&] {
      std::error_code error;
      if (mesh_.rank() == 0) std::filesystem::create_directories(folder, error);
      if (error) throw UserError(cat("cannot make ", folder.string(), ": ", error.message()));
    });
    double rate = 0;
    is_well = is_well && all_do([&] { rate = write(file(mesh_.rank())) * 1e-6; });
    is_well =
        is_well && all_do([&] {
          if (std::filesystem::exists(file(0))) return;
          throw UserError(cat("does not see what rank 0 wrote in ", folder.string(),
                              ": the run folder must be on a file system that all nodes share"));
        });
    if (is_well) {
      add({.name = cat("write ", kWritten >> 20, " MiB to ", folder.string()),
           .unit = "MB/s",
           .bound = kLeastWrite},
          rate);
    }
    std::error_code unused;
    std::filesystem::remove(file(mesh_.rank()), unused);
  }

  SelfTestReport report() {
    for (const Measurement& m : report_.measurements) {
      for (const Outlier& outlier : find_outliers(m)) {
        report_.findings.push_back(cat(who(outlier.ranks), ": ", m.name, ": ", outlier.text));
      }
    }
    return std::move(report_);
  }

 private:
  /// Median of the rounds; all ranks are at it together, and make the same calls.
  double seconds_of(const std::function<void()>& work, double round_s = kRound_s) {
    const auto round = [&](std::int64_t times) {
      barrier(mesh_.host_world());
      const Stopwatch watch;
      for (std::int64_t i = 0; i < times; ++i) work();
      stream_.synchronize();
      return watch.seconds() / static_cast<double>(times);
    };
    round(1);  // chooses algorithms, makes connections
    std::array<double, 1> once = {round(1)};
    all_reduce_min(mesh_.host_world(), once);
    const auto times = static_cast<std::int64_t>(std::ceil(round_s / std::max(once[0], 1e-6)));
    std::array<double, kRounds> seconds{};
    for (double& s : seconds) s = round(times);
    return median(seconds);
  }

  /// Standard normal numbers: on zeros a GPU draws less power, and so is faster.
  template <class T>
  void fill_normals(Ref<T, 2> matrix, Ref<float, 1> scratch) {
    const auto all = make_ref(matrix.data, matrix.size());
    fill_normal(stream_, scratch, /*seed=*/1, /*stream_of_name=*/++filled_, /*first=*/0,
                /*std=*/1.0, /*cut=*/3.0);
    cast<T, float>(stream_, all, scratch);
  }

  /// Ranks of rank 0's group that are on its node: the rates are taken from there.
  int on_first_node(const std::vector<int>& group_of_rank) const {
    int count = 0;
    for (std::size_t rank = 0; rank < hosts_.size(); ++rank) {
      if (group_of_rank[rank] == group_of_rank[0] && hosts_[rank] == hosts_[0]) ++count;
    }
    return count;
  }

  static double median(std::array<double, kRounds> values) {
    std::sort(values.begin(), values.end());
    return values[kRounds / 2];
  }

  static double write(const std::filesystem::path& path) {
    const std::vector<std::byte> data(static_cast<std::size_t>(kWritten), std::byte{7});
    const Stopwatch watch;
    const FileDescriptor fd = files::create(path);
    if (!files::write_at(fd.get(), 0, data) || fsync(fd.get()) != 0) {
      throw UserError(cat("cannot write ", path.string(), ": ", files::reason(errno, fd.get())));
    }
    return static_cast<double>(kWritten) / watch.seconds();
  }

  /// Whether work() throws on no rank; else what it throws becomes a finding. All have done it when
  /// it returns. Collective.
  bool all_do(const std::function<void()>& work) {
    std::string problem;
    try {
      work();
    } catch (const std::exception& error) {
      problem = error.what();
    }
    const std::vector<std::string> problems = mpi_.all_gather(problem);
    const std::size_t before = report_.findings.size();
    for (std::size_t rank = 0; rank < problems.size(); ++rank) {
      if (problems[rank].empty()) continue;
      report_.findings.push_back(cat(who({static_cast<int>(rank)}), ": ", problems[rank]));
    }
    return report_.findings.size() == before;
  }

  std::vector<double> on_all_ranks(double mine) {
    std::vector<double> values(static_cast<std::size_t>(mesh_.size()));
    values[static_cast<std::size_t>(mesh_.rank())] = mine;
    all_reduce_sum(mesh_.host_world(), values);
    return values;
  }

  /// Returns the least that any rank has.
  double add(Measurement m, double mine) {
    m.of_rank = on_all_ranks(mine);
    const double least = *std::ranges::min_element(m.of_rank);
    report_.measurements.push_back(std::move(m));
    return least;
  }

  /// "rank 3 on n2".
  std::string who(const std::vector<int>& ranks) const {
    const std::string& host = hosts_[static_cast<std::size_t>(ranks.front())];
    if (ranks.size() == 1) return cat("rank ", ranks.front(), " on ", host);
    return cat("the group of ranks ", describe_ranks(ranks), ", the first on ", host);
  }

  const MpiEnv& mpi_;
  const Mesh& mesh_;
  Backend backend_;
  Stream stream_;
  std::vector<std::string> hosts_;
  SelfTestReport report_;
  std::uint64_t filled_ = 0;
};

}  // namespace

SelfTestReport self_test(const MpiEnv& mpi, const Mesh& mesh, Backend backend, DType compute,
                         const std::filesystem::path& folder) {
  SelfTest test(mpi, mesh, backend);
  if (compute == DType::bfloat16) {
    test.products<bf16>();
    test.attention<bf16>();
  } else {
    test.products<float>();
    test.attention<float>();
  }
  test.device_memory();
  test.all_reduces();
  test.host_memory();
  test.clocks();
  test.writes(folder);
  return test.report();
}

std::string to_json(const SelfTestReport& report, const std::vector<std::string>& hosts) {
  nlohmann::ordered_json json;
  json["hosts"] = hosts;
  for (const Measurement& m : report.measurements) {
    json["measurements"].push_back({{"name", m.name}, {"unit", m.unit}, {"of_rank", m.of_rank}});
  }
  json["findings"] = report.findings;
  json["rates"] = nlohmann::ordered_json::parse(rates_json(report.rates));
  return json.dump(2) + "\n";
}

}  // namespace koios
