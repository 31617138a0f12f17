// Speed of the matrix products and of attention, at the shapes of a training step.
//   bench_math [host|cuda] [seconds per case] [products|fp8|attention] [joules]
// Power limits make a GPU slower once it is warm, so the cases of a group take turns until each
// has run for its time, on random numbers; the last half of the rounds counts. joules: then each
// runs alone, for the energy that a call takes.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/integers.hpp"
#include "core/random.hpp"
#include "core/stopwatch.hpp"
#include "kernels/attention.hpp"
#include "kernels/fp8.hpp"
#include "kernels/gemm.hpp"
#include "runtime/arena.hpp"
#include "runtime/copy.hpp"
#include "runtime/device.hpp"
#include "tools/bench_energy.hpp"

namespace koios {
namespace {

struct BenchCase {
  std::string name;
  double flop = 0;
  std::function<void()> run;
};

struct Options {
  double seconds = 1;     // of each case
  std::string energy_of;  // PCI bus of the GPU whose energy is measured; empty: none
};

/// What the cases work on: one arena, and the libraries' handles.
class Bench {
 public:
  Bench(Backend backend, const Options& options, std::int64_t bytes)
      : stream_(backend, "bench"),
        seconds_(options.seconds),
        energy_(options.energy_of),
        arena_(backend, MemoryPlan{{{"bench", bytes}}, bytes}),
        gemm_workspace_(
            arena_.take<std::byte>("bench", MathHandles::gemm_workspace_bytes(backend))),
        math_(backend, {}, gemm_workspace_) {}

  Backend backend() const { return stream_.backend(); }
  Stream& stream() { return stream_; }
  MathHandles& math() { return math_; }
  MathHandles math(const MathOptions& options) { return {backend(), options, gemm_workspace_}; }

  template <class T, class... Extents>
  auto take(Extents... extents) {
    auto array = arena_.take<T>("bench", extents...);
    fill_random(any(array));
    return array;
  }
  Ref<std::int32_t, 1> take_copy(std::vector<std::int32_t>& values) {
    const auto array = arena_.take<std::int32_t>("bench", std::ssize(values));
    copy(stream_, any(array), any(make_ref(values.data(), std::ssize(values))));
    stream_.synchronize();
    return array;
  }
  Ref<std::byte, 1> take_bytes(std::int64_t bytes) {
    return arena_.take<std::byte>("bench", bytes);
  }

  void run(const std::string& title, const std::vector<BenchCase>& cases) {
    std::printf("%s\n", title.c_str());
    for (const auto& c : cases) c.run();  // chooses algorithms, touches memory
    stream_.synchronize();
    std::vector<std::vector<double>> times(cases.size());
    double total = 0;
    while (total < seconds_ * static_cast<double>(cases.size()) || times[0].size() < 4) {
      for (std::size_t i = 0; i < cases.size(); ++i) {
        times[i].push_back(time(cases[i]));
        total += times[i].back() * kRepeats;
      }
    }
    double sum_s = 0;
    double sum_flop = 0;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      std::vector<double> late(times[i].begin() + times[i].size() / 2, times[i].end());
      std::nth_element(late.begin(), late.begin() + late.size() / 2, late.end());
      const double median = late[late.size() / 2];
      report(cases[i].name, median, cases[i].flop);
      energy_.print(stream_, cases[i].run);
      std::printf("\n");
      sum_s += median;
      sum_flop += cases[i].flop;
    }
    report("all", sum_s, sum_flop);
    std::printf("\n");
  }

 private:
  static constexpr int kRepeats = 3;

  double time(const BenchCase& c) {
    Event start(backend(), true);
    Event end(backend(), true);
    start.record(stream_);
    for (int i = 0; i < kRepeats; ++i) c.run();
    end.record(stream_);
    end.synchronize();
    return end.seconds_since(start) / kRepeats;
  }

  void report(const std::string& name, double seconds, double flop) const {
    std::printf("  %-28s %10.3f ms %9.1f GFLOP/s", name.c_str(), 1e3 * seconds,
                1e-9 * flop / seconds);
    std::fflush(stdout);
  }

  /// A million random numbers, repeated.
  void fill_random(AnyRef array) {
    constexpr std::int64_t kCount = 1 << 20;
    static const std::vector<float> values = [] {
      std::vector<float> v(kCount);
      for (std::int64_t i = 0; i < kCount; ++i) v[i] = static_cast<float>(normal_at(1, 0, i, 6.0));
      return v;
    }();
    const auto fill = [&]<class T>(T*) {
      std::vector<T> rounded;
      for (const float v : values) rounded.emplace_back(v);
      for (std::int64_t i = 0; i < array.count; i += kCount) {
        const std::int64_t count = std::min(kCount, array.count - i);
        copy(stream_, any(make_ref(static_cast<T*>(array.data) + i, count)),
             any(make_ref(rounded.data(), count)));
        stream_.synchronize();
      }
    };
    switch (array.dtype) {
      case DType::bfloat16:
        return fill(static_cast<bf16*>(nullptr));
      case DType::float8_e4m3:
        return fill(static_cast<fp8_e4m3*>(nullptr));
      case DType::float8_e5m2:
        return fill(static_cast<fp8_e5m2*>(nullptr));
      default:
        KOIOS_REQUIRE(array.dtype == DType::float32, "random ", to_string(array.dtype));
        return fill(static_cast<float*>(nullptr));
    }
  }

  Stream stream_;
  double seconds_;
  EnergyMeter energy_;
  Arena arena_;
  Ref<std::byte, 1> gemm_workspace_;
  MathHandles math_;
};

struct Linear {
  std::string name;
  std::int64_t rows, in, out;
};

template <class T>
void bench_linears(Bench& bench, const std::vector<Linear>& linears) {
  std::vector<BenchCase> forward, backward_input, backward_weight;
  for (const auto& l : linears) {
    const auto x = bench.take<T>(l.rows, l.in);
    const auto w = bench.take<T>(l.out, l.in);
    const auto y = bench.take<T>(l.rows, l.out);
    const auto dw = bench.take<float>(l.out, l.in);
    const double flop = 2.0 * static_cast<double>(l.rows) * l.in * l.out;
    auto& math = bench.math();
    auto& s = bench.stream();
    forward.push_back({l.name, flop, [=, &math, &s] {
                         linear_forward(math, s, y, Ref<const T, 2>(x), Ref<const T, 2>(w));
                       }});
    backward_input.push_back({l.name, flop, [=, &math, &s] {
                                linear_backward_input(math, s, x, Ref<const T, 2>(y),
                                                      Ref<const T, 2>(w));
                              }});
    backward_weight.push_back({l.name, flop, [=, &math, &s] {
                                 linear_backward_weight(math, s, dw, Ref<const T, 2>(y),
                                                        Ref<const T, 2>(x), Write::overwrite);
                               }});
  }
  bench.run("linear_forward", forward);
  bench.run("linear_backward_input", backward_input);
  bench.run("linear_backward_weight", backward_weight);
}

/// The same products in FP8: e4m3 forward, gradients in e5m2. blocks: 1 x 128 and 128 x 128.
void bench_fp8_linears(Bench& bench, const std::vector<Linear>& linears, Fp8ScaleKind kind,
                       Accumulation accumulation) {
  const bool blocks = kind == Fp8ScaleKind::piece;
  const auto operand = [&]<class Q>(Ref<Q, 2> q, Fp8ScaleKind of) -> Fp8Matrix<Q> {
    const std::int64_t rows = q.extent[0];
    const std::int64_t across = ceil_div(q.extent[1], kFp8Block);
    Ref<float, 2> scale;
    if (of == Fp8ScaleKind::matrix) scale = bench.take<float>(1, 1);
    if (of == Fp8ScaleKind::row) scale = bench.take<float>(1, rows);
    if (of == Fp8ScaleKind::piece) scale = bench.take<float>(across, rows);
    if (of == Fp8ScaleKind::square) {
      scale = column_range(bench.take<float>(ceil_div(rows, kFp8Block), round_up(across, 4)), 0,
                           across);
    }
    return {q, scale, of};
  };
  const auto weight_kind = blocks ? Fp8ScaleKind::square : kind;
  std::vector<BenchCase> forward, backward_input, backward_weight;
  for (const auto& l : linears) {
    const auto x = operand(bench.take<fp8_e4m3>(l.rows, l.in), kind);
    const auto x_turned = operand(bench.take<fp8_e4m3>(l.in, l.rows), kind);
    const auto w = operand(bench.take<fp8_e4m3>(l.out, l.in), weight_kind);
    const auto w_turned = operand(bench.take<fp8_e4m3>(l.in, l.out), weight_kind);
    const auto dy = operand(bench.take<fp8_e5m2>(l.rows, l.out), kind);
    const auto dy_turned = operand(bench.take<fp8_e5m2>(l.out, l.rows), kind);
    const auto y = bench.take<bf16>(l.rows, l.out);
    const auto dx = bench.take<bf16>(l.rows, l.in);
    const auto dw = bench.take<float>(l.out, l.in);
    const double flop = 2.0 * static_cast<double>(l.rows) * l.in * l.out;
    auto& math = bench.math();
    auto& s = bench.stream();
    forward.push_back({l.name, flop, [=, &math, &s] {
                         fp8_product(math, s, y, x, w, Write::overwrite, accumulation);
                       }});
    backward_input.push_back({l.name, flop, [=, &math, &s] {
                                fp8_product(math, s, dx, dy, w_turned, Write::overwrite,
                                            accumulation);
                              }});
    backward_weight.push_back({l.name, flop, [=, &math, &s] {
                                 fp8_product(math, s, dw, dy_turned, x_turned, Write::overwrite,
                                             accumulation);
                               }});
  }
  const std::string recipe = cat(kind == Fp8ScaleKind::matrix ? "one scale"
                                 : blocks                     ? "scales of blocks"
                                                              : "scales of rows",
                                 accumulation == Accumulation::fast ? ", fast sums" : "");
  bench.run(cat("FP8 forward, ", recipe), forward);
  bench.run(cat("FP8 backward_input, ", recipe), backward_input);
  bench.run(cat("FP8 backward_weight, ", recipe), backward_weight);
}

/// Sequences packed of documents of `tokens` each; the last of a sequence is what is left.
struct PackedDocuments {
  std::vector<std::int32_t> start, begin;

  PackedDocuments(const AttentionShape& shape, std::int64_t tokens) {
    const std::int64_t rows = shape.batch * shape.seq_len;
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t position = i % shape.seq_len;
      start.push_back(narrow<std::int32_t>(position / tokens * tokens));
      if (position % tokens == 0) begin.push_back(narrow<std::int32_t>(i));
    }
    begin.push_back(narrow<std::int32_t>(rows));
  }
};

/// Where the gradients of queries, keys and values lie: in rows of one matrix, as in training, or
/// each by itself.
enum class GradientRows { together, apart };

/// document_tokens: with shape.document_mask, the length of each packed document.
template <class T>
void bench_attention(Bench& bench, const AttentionShape& shape, MathOptions options,
                     std::int64_t document_tokens = 0,
                     GradientRows gradients = GradientRows::together) {
  const std::int64_t rows = shape.batch * shape.seq_len;
  const std::int64_t q_width = shape.heads * shape.head_dim;
  const std::int64_t kv_width = shape.kv_heads * shape.head_dim;
  const auto qkv = bench.take<T>(rows, q_width + 2 * kv_width);
  const bool together = gradients == GradientRows::together;
  const auto d_qkv = bench.take<T>(rows, together ? q_width + 2 * kv_width : 1);
  const auto o = bench.take<T>(rows, q_width);
  const auto d_o = bench.take<T>(rows, q_width);
  const auto lse = bench.take<float>(shape.batch * shape.heads * shape.seq_len);
  if (bench.backend() == Backend::cuda) {
    options.attention_workspace_bytes =
        ask_attention_workspace_bytes(options, shape, dtype_of<T>, {qkv.pitch, qkv.pitch, q_width});
  }
  const std::int64_t workspace_bytes =
      attention_workspace_bytes(bench.backend(), options, shape, sizeof(T));
  const auto workspace = bench.take_bytes(workspace_bytes);
  const auto q = column_range(qkv, 0, q_width);
  const auto k = column_range(qkv, q_width, kv_width);
  const auto v = column_range(qkv, q_width + kv_width, kv_width);
  const auto gradient = [&](std::int64_t first, std::int64_t width) {
    return together ? column_range(d_qkv, first, width) : bench.take<T>(rows, width);
  };
  const auto dq = gradient(0, q_width);
  const auto dk = gradient(q_width, kv_width);
  const auto dv = gradient(q_width + kv_width, kv_width);
  Documents documents;
  if (shape.document_mask) {
    PackedDocuments packed(shape, document_tokens);
    documents = {bench.take_copy(packed.start), bench.take_copy(packed.begin)};
  }
  // The causal half of two products forward and five backward.
  const double product = static_cast<double>(shape.batch) * shape.heads * shape.seq_len *
                         (shape.seq_len + 1) * shape.head_dim;
  MathHandles math = bench.math(options);
  auto& s = bench.stream();
  using C = Ref<const T, 2>;
  const std::string in_documents =
      cat(" in ", documents.count(), " documents of ", document_tokens,
          options.attention == AttentionKind::fallback ? ", fallback" : "",
          together ? "" : ", gradients apart");
  bench.run(
      cat("attention B ", shape.batch, " T ", shape.seq_len, " H ", shape.heads, " K ",
          shape.kv_heads, " E ", shape.head_dim, shape.document_mask ? in_documents : "",
          ", workspace ", workspace_bytes >> 20, " MiB (causal half counted)"),
      {{"forward", 2 * product,
        [&] { attention_forward(math, s, shape, o, lse, C(q), C(k), C(v), workspace, documents); }},
       {"backward", 5 * product, [&] {
          attention_backward(math, s, shape, dq, dk, dv, C(d_o), C(o), Ref<const float, 1>(lse),
                             C(q), C(k), C(v), workspace, documents);
        }}});
}

void bench_host_products(const Options& options) {
  Bench bench(Backend::host, options, std::int64_t{1} << 30);
  bench_linears<float>(bench, {{"peak: 2048 x 2048 x 2048", 2048, 2048, 2048}});
  const std::int64_t N = 2048;
  bench_linears<float>(bench, {{"qkv", N, 256, 768},
                               {"wo", N, 256, 256},
                               {"w13", N, 256, 1536},
                               {"w2", N, 768, 256},
                               {"head", N, 256, 32000}});
}

void bench_host_attention(const Options& options) {
  Bench bench(Backend::host, options, std::int64_t{1} << 30);
  bench_attention<float>(bench, {4, 512, 16, 16, 16}, {});
  bench_attention<float>(bench, {1, 2048, 16, 16, 16}, {});
  bench_attention<float>(bench, {1, 2048, 4, 2, 128}, {});
  bench_attention<float>(bench, {1, 2048, 16, 16, 16, true}, {}, 256);
}

void bench_cuda_products(const Options& options) {
  Bench bench(Backend::cuda, options, std::int64_t{44} << 30);
  const std::int64_t N = 8192;
  bench_linears<bf16>(bench, {{"qkv", N, 4096, 12288},
                              {"wo", N, 4096, 4096},
                              {"w13", N, 4096, 22016},
                              {"w2", N, 11008, 4096},
                              {"head, 2048 rows", 2048, 4096, 32000}});
}

void bench_cuda_fp8(const Options& options) {
  Bench bench(Backend::cuda, options, std::int64_t{44} << 30);
  const std::int64_t N = 8192;
  const std::vector<Linear> of_block = {{"qkv", N, 4096, 12288},
                                        {"wo", N, 4096, 4096},
                                        {"w13", N, 4096, 22016},
                                        {"w2", N, 11008, 4096}};
  using enum Accumulation;
  bench_fp8_linears(bench, of_block, Fp8ScaleKind::matrix, fast);
  bench_fp8_linears(bench, of_block, Fp8ScaleKind::matrix, exact);
  bench_fp8_linears(bench, of_block, Fp8ScaleKind::row, fast);
  bench_fp8_linears(bench, of_block, Fp8ScaleKind::row, exact);
  bench_fp8_linears(bench, of_block, Fp8ScaleKind::piece, exact);
}

void bench_cuda_attention(const Options& options) {
  Bench bench(Backend::cuda, options, std::int64_t{32} << 30);
  const AttentionShape seven{2, 4096, 32, 32, 128, true};
  bench_attention<bf16>(bench, {2, 4096, 32, 32, 128}, {});
  bench_attention<bf16>(bench, seven, {}, 4096);
  bench_attention<bf16>(bench, seven, {}, 500);
  bench_attention<bf16>(bench, seven, {}, 500, GradientRows::apart);
  bench_attention<bf16>(bench, seven, {.attention = AttentionKind::fallback}, 500);
  // What empty documents and tiles beyond a document's end cost: the same work in plans of fewer
  // tokens a sequence, and in one for many more documents.
  bench_attention<bf16>(bench, seven, {}, 512);
  bench_attention<bf16>(bench, {8, 1024, 32, 32, 128, true}, {}, 512);
  bench_attention<bf16>(bench, seven, {}, 100);
  bench_attention<bf16>(bench, {1, 4096, 32, 32, 128}, {});
  bench_attention<bf16>(bench, {1, 4096, 32, 32, 128, true}, {}, 500);
  bench_attention<bf16>(bench, {1, 4096, 32, 8, 128}, {});
  bench_attention<bf16>(bench, {1, 4096, 32, 8, 128, true}, {}, 500);
}

struct Group {
  const char* name;
  void (*on_host)(const Options& options);  // null: there is nothing to measure
  void (*on_cuda)(const Options& options);
};
constexpr Group kGroups[] = {{"products", bench_host_products, bench_cuda_products},
                             {"fp8", nullptr, bench_cuda_fp8},
                             {"attention", bench_host_attention, bench_cuda_attention}};

}  // namespace
}  // namespace koios

int main(int argc, char** argv) {
  const std::string backend = argc > 1                                   ? argv[1]
                              : koios::is_built_in(koios::Backend::cuda) ? "cuda"
                                                                         : "host";
  const bool cuda = backend == "cuda";
  const double seconds = argc > 2 ? std::atof(argv[2]) : 1.0;
  const std::string wanted = argc > 3 ? argv[3] : "";
  const bool is_known =
      wanted.empty() || std::ranges::any_of(koios::kGroups, [&](const koios::Group& group) {
        return wanted == group.name;
      });
  const bool has_energy = argc > 4 && std::string(argv[4]) == "joules";
  if ((!cuda && backend != "host") || seconds <= 0 || !is_known ||
      (argc > 4 && !(has_energy && cuda))) {
    std::fprintf(stderr,
                 "usage: bench_math [host|cuda] [SECONDS] [products|fp8|attention] [joules: with "
                 "cuda]\n");
    return 2;
  }
  try {
    const koios::DeviceEnv device(cuda ? koios::Backend::cuda : koios::Backend::host, 0);
    std::printf("%s\n", device.info().name.c_str());
    const koios::Options options{seconds, has_energy ? device.info().pci_bus : ""};
    for (const koios::Group& group : koios::kGroups) {
      if (!wanted.empty() && wanted != group.name) continue;
      const auto run = cuda ? group.on_cuda : group.on_host;
      if (run != nullptr) run(options);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
