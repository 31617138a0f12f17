// Speed of the kernels that memory limits, against a plain copy in the same run.
//   bench_kernels [host|cuda] [part of a kernel's name, as a regular expression] [joules]
// cuda: bf16 at the shapes of a 7B layer; host: float at the shapes of the debug model.
// A kernel's bytes are what it must read and write at least, so that "% of copy" also shows what
// it moves beyond that. Rounds take turns with the copy; the medians count. joules: then each runs
// alone, for the energy that a call takes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "core/integers.hpp"
#include "core/random.hpp"
#include "core/stopwatch.hpp"
#include "kernels/adamw.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/detail/host_parallel.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/embedding.hpp"
#include "kernels/fp8.hpp"
#include "kernels/fp8_weights.hpp"
#include "kernels/reduce.hpp"
#include "kernels/rmsnorm.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"
#include "runtime/arena.hpp"
#include "runtime/copy.hpp"
#include "runtime/device.hpp"
#include "tools/bench_energy.hpp"

namespace koios {
namespace {

struct Shapes {
  std::int64_t N, T, D, heads, E, F, V, parameters;
};
constexpr Shapes kLlama7B = {8192, 4096, 4096, 32, 128, 11008, 32000, 1 << 28};
constexpr Shapes kDebug = {2048, 512, 256, 8, 32, 768, 32000, 23'000'000};

struct BenchCase {
  std::string name;
  double bytes = 0;
  std::function<void()> run;
};

/// Where each token of the batch stands, sorted: drawn so that token k has a share like 1 / (k+1),
/// as in text.
struct HostSort {
  std::vector<std::int32_t> token, position, begin, distinct;

  HostSort(std::int64_t N, std::int64_t V) : token(N), position(N) {
    for (std::int64_t n = 0; n < N; ++n) {
      const Philox4 bits = philox(1, static_cast<std::uint64_t>(n), 0);
      const double u = uniform_open(bits.word[0], bits.word[1]);
      token[n] = static_cast<std::int32_t>(std::pow(static_cast<double>(V), u)) - 1;
      position[n] = static_cast<std::int32_t>(n);
    }
    std::stable_sort(position.begin(), position.end(),
                     [&](auto a, auto b) { return token[a] < token[b]; });
    for (std::int64_t k = 0; k < N; ++k) {
      if (k > 0 && token[position[k]] == token[position[k - 1]]) continue;
      begin.push_back(static_cast<std::int32_t>(k));
      distinct.push_back(token[position[k]]);
    }
    begin.push_back(static_cast<std::int32_t>(N));
  }
};

template <class T>
class Bench {
 public:
  Bench(Backend backend, const Shapes& shapes)
      : stream_(backend, "bench"), shapes_(shapes), sort_(shapes.N, shapes.V) {
    Arena planner = Arena::planner(backend);
    make_cases(planner);
    cases_.clear();
    arena_ = std::make_unique<Arena>(backend, planner.taken());
    make_cases(*arena_);
  }

  void run(const std::regex& filter, const EnergyMeter& energy) {
    std::erase_if(cases_, [&](const BenchCase& c) {
      return c.name != kCopy && !std::regex_search(c.name, filter);
    });
    constexpr int kRounds = 9;
    std::vector<std::vector<double>> seconds(cases_.size());
    for (int round = 0; round < kRounds; ++round) {
      for (std::size_t i = 0; i < cases_.size(); ++i) {
        const double s = time(cases_[i]);
        if (round > 0) seconds[i].push_back(s);  // the first one touches the memory
      }
    }
    std::printf("%-32s %10s %9s %9s\n", "kernel", "us", "GB/s", "% of copy");
    double copy_rate = 0;
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      auto& s = seconds[i];
      std::nth_element(s.begin(), s.begin() + std::ssize(s) / 2, s.end());
      const double median = s[s.size() / 2];
      const double rate = cases_[i].bytes / median;
      if (cases_[i].name == kCopy) copy_rate = rate;
      std::printf("%-32s %10.1f %9.1f %9.1f", cases_[i].name.c_str(), median * 1e6, rate * 1e-9,
                  100 * rate / copy_rate);
      energy.print(stream_, cases_[i].run);
      std::printf("\n");
    }
  }

 private:
  static constexpr const char* kCopy = "copy";

  /// Of one run, from as many as fill a few milliseconds.
  double time(const BenchCase& c) {
    constexpr int kRuns = 10;
    Event begin(stream_.backend(), true), end(stream_.backend(), true);
    c.run();
    begin.record(stream_);
    for (int k = 0; k < kRuns; ++k) c.run();
    end.record(stream_);
    end.synchronize();
    return end.seconds_since(begin) / kRuns;
  }

  template <class E>
  void fill_random(Ref<E, 2> a, double std) {
    if (a.data == nullptr) return;
    Ref<float, 1> numbers = make_ref(random_.data, a.size());
    fill_normal(stream_, numbers, 1, stream_of("bench"), 0, std, 6);
    cast<E, float>(stream_, make_ref(a.data, a.size()), numbers);
  }
  Ref<const std::int32_t, 1> upload(Arena& arena, std::vector<std::int32_t>& from) {
    auto to = arena.take<std::int32_t>("bench", std::ssize(from));
    if (to.data != nullptr) copy(stream_, any(to), any(make_ref(from.data(), std::ssize(from))));
    return to;
  }

  /// About as many parameters as a model of 7B has.
  Ref<const ElementPlace, 1> take_places(Arena& arena, std::int64_t size) {
    constexpr std::int64_t kParts = 290;
    const std::int64_t part = round_up(ceil_div(size, kParts), kPlaceAlignment);
    places_.clear();
    for (std::int64_t begin = 0; begin < size; begin += part) {
      places_.push_back({begin, stream_of("bench"), 0, part, part});
    }
    auto to = arena.take<ElementPlace>("bench", std::ssize(places_));
    const auto words = std::ssize(places_) * std::int64_t{sizeof(ElementPlace) / 8};
    if (to.data != nullptr) {
      copy(stream_, {to.data, words, DType::int64}, {places_.data(), words, DType::int64});
    }
    return to;
  }

  void add_case(const std::string& name, double bytes, std::function<void()> run) {
    cases_.push_back({name, bytes, std::move(run)});
  }

  void make_cases(Arena& arena) {
    const auto [N, T_, D, heads, E, F, V, P] = shapes_;
    const double b = sizeof(T);
    const auto take = [&](std::int64_t rows, std::int64_t columns, double std = 1) {
      auto a = arena.take<T>("bench", rows, columns);
      fill_random(a, std);
      return a;
    };
    const auto floats = [&](std::int64_t size) {
      auto a = arena.take<float>("bench", std::int64_t{1}, size);
      fill_random(a, 1e-3);
      return make_ref(a.data, size);
    };
    random_ = arena.take<float>("bench", std::max({P, N * V, 2 * N * F}));

    Stream& s = stream_;
    const double ND = static_cast<double>(N * D), NF = static_cast<double>(N * F);
    const double NV = static_cast<double>(N * V), Pd = static_cast<double>(P);

    const auto p = floats(P), m = floats(P), v = floats(P), g = floats(P);
    add_case(kCopy, 8 * Pd, [=, &s] { copy_all(s, p, g); });

    const auto x = take(N, D), y = take(N, D), z = take(N, D), dx = take(N, D);
    const auto w = make_ref(take(1, D).data, D);
    const auto rstd = floats(N), dw = floats(D);
    const auto parts = arena.take<float>("bench", norm_backward_partials(s.backend()), D);
    add_case("add", 3 * ND * b, [=, &s] { koios::add<T>(s, z, x, y); });
    add_case("rmsnorm_forward", 2 * ND * b,
             [=, &s] { rmsnorm_forward<T>(s, y, rstd, x, w, 1e-5F); });
    add_case("add_rmsnorm_forward", 4 * ND * b,
             [=, &s] { add_rmsnorm_forward<T>(s, z, y, rstd, x, dx, w, 1e-5F); });
    add_case("rmsnorm_backward", 4 * ND * b, [=, &s] {
      rmsnorm_backward<T>(s, dx, dw, parts, y, dx, x, rstd, w, Write::accumulate);
    });

    const auto qkv = take(N, 3 * heads * E);
    const auto qk = column_range(qkv, 0, 2 * heads * E);
    const auto table = arena.take<float>("bench", T_, E);
    if (table.data != nullptr) rope_table(s, table, 10000);
    add_case("rope_forward", 2 * static_cast<double>(qk.size()) * b,
             [=, &s] { rope_forward<T>(s, qk, table); });

    const auto gate_up = take(N, 2 * F), d_gate_up = take(N, 2 * F), f = take(N, F);
    add_case("swiglu_forward", 3 * NF * b, [=, &s] { swiglu_forward<T>(s, f, gate_up); });
    add_case("swiglu_backward", 5 * NF * b,
             [=, &s] { swiglu_backward<T>(s, d_gate_up, f, gate_up); });

    const auto embedding = take(V, D);
    const auto d_embedding = arena.take<float>("bench", V, D);
    const auto token = upload(arena, sort_.token);
    const EmbeddingSort sort{upload(arena, sort_.position), upload(arena, sort_.begin),
                             upload(arena, sort_.distinct)};
    const auto distinct = static_cast<double>(sort_.distinct.size());
    add_case("embedding_forward", 2 * ND * b,
             [=, &s] { embedding_forward<T>(s, y, token, embedding); });
    add_case("embedding_backward", ND * b + 8 * distinct * static_cast<double>(D),
             [=, &s] { embedding_backward<T>(s, d_embedding, y, sort); });

    const auto logits = take(N, V);
    const auto loss = floats(N);
    add_case("cross_entropy_forward_backward", 2 * NV * b,
             [=, &s] { cross_entropy_forward_backward<T>(s, loss, logits, token, 1.0F / 8192); });

    const auto scale = floats(1), partials = floats(kSumPartials), out = floats(1);
    add_case("adam_update", 28 * Pd,
             [=, &s] { adam_update(s, p, m, v, g, scale, {.lr = 1e-6, .weight_decay = 0.1}); });
    const auto m_narrow = arena.take<bf16>("bench", P), v_narrow = arena.take<bf16>("bench", P);
    const auto places = take_places(arena, P);
    add_case("adam_update of bf16 moments", 20 * Pd, [=, &s] {
      adam_update(s, p, m_narrow, v_narrow, g, scale, {.lr = 1e-6, .weight_decay = 0.1}, {},
                  {1, places});
    });
    add_case("sum_of_squares", 4 * Pd, [=, &s] { sum_of_squares(s, out, g, partials, false); });
    // Casts to FP8 of an activation, and what weights need.
    const auto fp8 = [&](std::int64_t rows, std::int64_t columns) {
      return arena.take<fp8_e4m3>("bench", rows, columns);
    };
    const auto q_NF = fp8(N, F), q_FN = fp8(F, N);
    const auto amax = floats(1), inverse = floats(1), found = floats(1), amax_N = floats(N),
               amax_F = floats(F);
    const auto inverse_N = floats(N), inverse_F = floats(F);
    const auto inverse_BN = arena.take<float>("bench", ceil_div(F, kFp8Block), N);
    const auto inverse_BF = arena.take<float>("bench", ceil_div(N, kFp8Block), F);
    const auto counts = arena.take<std::int64_t>("bench", kFp8Counts);
    if (amax.data != nullptr) {
      fill(s, amax, 100);  // nothing saturates
      fill(s, found, 0);
    }
    const Fp8Scales scales{amax, inverse}, of_N{amax_N, inverse_N, true},
        of_F{amax_F, inverse_F, true};
    const auto a_NF = take(N, F);
    using C = Ref<const T, 2>;
    add_case("raise_amax", NF * b, [=, &s] { raise_amax<T>(s, amax, C(a_NF)); });
    add_case("raise_amax_of_rows_and_columns", NF * b,
             [=, &s] { raise_amax_of_rows_and_columns<T>(s, amax_N, amax_F, C(a_NF)); });
    add_case("cast_to_fp8", NF * (b + 1),
             [=, &s] { cast_to_fp8<fp8_e4m3, T>(s, q_NF, C(a_NF), scales, counts); });
    add_case("cast_to_fp8_with_transpose", NF * (b + 2), [=, &s] {
      cast_to_fp8_with_transpose<fp8_e4m3, T>(s, q_NF, q_FN, C(a_NF), scales, scales, counts);
    });
    add_case("cast_to_fp8_with_transpose rows", NF * (b + 2), [=, &s] {
      cast_to_fp8_with_transpose<fp8_e4m3, T>(s, q_NF, q_FN, C(a_NF), of_N, of_F, counts);
    });
    add_case("cast_to_fp8_in_pieces", NF * (b + 2), [=, &s] {
      cast_to_fp8_in_pieces<fp8_e4m3, T>(s, q_NF, inverse_BN, q_FN, inverse_BF, C(a_NF), counts);
    });
    add_case("cast_to_fp8_in_squares", NF * (b + 2), [=, &s] {
      cast_to_fp8_in_squares<fp8_e4m3, T>(s, q_NF, inverse_BF, q_FN, inverse_BN, C(a_NF), counts);
    });
    // Kernels that find the largest magnitude as they write.
    const auto gate = column_range(C(gate_up), 0, F), up = column_range(C(gate_up), F, F);
    const auto d_gate = column_range(d_gate_up, 0, F), d_up = column_range(d_gate_up, F, F);
    add_case("rmsnorm_forward amax", 2 * ND * b,
             [=, &s] { rmsnorm_forward<T>(s, y, rstd, x, w, 1e-5F, NormRounding::once, amax); });
    add_case("add_rmsnorm_forward amax", 4 * ND * b, [=, &s] {
      add_rmsnorm_forward<T>(s, z, y, rstd, x, dx, w, 1e-5F, NormRounding::once, amax);
    });
    add_case("rmsnorm_backward amax", 4 * ND * b, [=, &s] {
      rmsnorm_backward<T>(s, dx, dw, parts, y, dx, x, rstd, w, Write::accumulate, amax);
    });
    add_case("rope_backward amax", 2 * static_cast<double>(qk.size()) * b,
             [=, &s] { rope_backward<T>(s, qk, table, amax); });
    add_case("swiglu_forward amax", 3 * NF * b,
             [=, &s] { swiglu_forward<T>(s, f, gate, up, amax); });
    add_case("swiglu_backward amax", 5 * NF * b,
             [=, &s] { swiglu_backward<T>(s, d_gate, d_up, f, gate, up, amax); });
    const auto q_of_x = make_ref(q_NF.data, N, D), q_of_x_turned = make_ref(q_FN.data, D, N);
    const Fp8Output<fp8_e4m3> y_at_once{q_of_x, q_of_x_turned, scales, found, counts};
    add_case("rmsnorm_forward_to_fp8", ND * (b + 3), [=, &s] {
      rmsnorm_forward_to_fp8<T>(s, y_at_once, rstd, x, w, 1e-5F, NormRounding::once);
    });
    add_case("add_rmsnorm_forward_to_fp8", ND * (3 * b + 3), [=, &s] {
      add_rmsnorm_forward_to_fp8<T>(s, z, y_at_once, rstd, x, dx, w, 1e-5F, NormRounding::once);
    });
    add_case("swiglu_forward_to_fp8", NF * (2 * b + 2), [=, &s] {
      swiglu_forward_to_fp8<T>(s, {q_NF, q_FN, scales, found, counts}, gate, up);
    });
    const auto d_N2F = arena.take<fp8_e5m2>("bench", N, 2 * F);
    const auto d_2FN = arena.take<fp8_e5m2>("bench", 2 * F, N);
    add_case("swiglu_backward_to_fp8", NF * (3 * b + 4), [=, &s] {
      swiglu_backward_to_fp8<T>(s, {d_N2F, d_2FN, scales, found, counts}, f, gate, up);
    });
    const auto d_NQ = make_ref(d_N2F.data, N, qkv.extent[1]);
    const auto d_QN = make_ref(d_2FN.data, qkv.extent[1], N);
    add_case("rope_backward_to_fp8", static_cast<double>(qkv.size()) * (b + 2), [=, &s] {
      rope_backward_to_fp8<T>(s, {d_NQ, d_QN, scales, found, counts}, C(qkv), qk.extent[1], table);
    });
    // A rank's rows of weights.
    const std::int64_t rows = std::min({F, P / D, N * F / D}) / kFp8Block * kFp8Block;
    const double weights = static_cast<double>(rows * D);
    const auto w_ND = Ref<const float, 2>(make_ref(p.data, rows, D));
    const auto q_ND = make_ref(q_NF.data, rows, D), r_ND = make_ref(q_FN.data, rows, D);
    const auto of_w_N = floats(rows), of_w_D = floats(D);
    const auto of_w = arena.take<float>("bench", rows / kFp8Block, ceil_div(D, kFp8Block));
    add_case("raise_amax_of_squares", 4 * weights,
             [=, &s] { raise_amax_of_squares(s, of_w, w_ND, 0); });
    add_case("cast_weights_by_square", 5 * weights,
             [=, &s] { cast_weights_by_square(s, q_ND, w_ND, of_w, 0); });
    add_case("amax of a weight's rows, columns", 4 * weights,
             [=, &s] { raise_amax_of_rows_and_columns<float>(s, of_w_N, of_w_D, w_ND); });
    add_case("cast_weights_by_row_and_column", 6 * weights,
             [=, &s] { cast_weights_by_row_and_column(s, q_ND, r_ND, w_ND, of_w_N, of_w_D); });
    add_case("transpose_fp8", 2 * NF,
             [=, &s] { transpose_fp8<fp8_e4m3>(s, q_FN, Ref<const fp8_e4m3, 2>(q_NF)); });
    const auto narrow = make_ref(take(1, P).data, P);
    if constexpr (std::is_same_v<T, bf16>) {
      add_case("adam_update that also rounds", 30 * Pd, [=, &s] {
        adam_update(s, p, m, v, g, scale, {.lr = 1e-6, .weight_decay = 0.1}, narrow);
      });
    }
    add_case("cast from float", (4 + b) * Pd, [=, &s] { cast<T, float>(s, narrow, p); });
    add_case("add_into float", (8 + b) * Pd, [=, &s] { add_into<float, T>(s, g, narrow); });
    add_case("fill", 4 * Pd, [=, &s] { fill(s, g, 0.5F); });
    add_case("fill_normal", 4 * Pd, [=, &s] { fill_normal(s, g, 1, 2, 0, 0.02, 3); });
  }

  /// On the host with all threads, as the kernels run.
  static void copy_all(Stream& s, Ref<float, 1> dst, Ref<const float, 1> src) {
    if (s.backend() == Backend::cuda) return copy(s, any(dst), any(src));
    constexpr std::int64_t kPiece = 1 << 16;
    const std::int64_t size = dst.extent[0];
    detail::host_parallel_for("copy", ceil_div(size, kPiece), [&](std::int64_t k) {
      const std::int64_t count = std::min(kPiece, size - k * kPiece);
      std::memcpy(dst.data + k * kPiece, src.data + k * kPiece, count * sizeof(float));
    });
  }

  Stream stream_;
  Shapes shapes_;
  HostSort sort_;
  Ref<float, 1> random_;
  std::vector<ElementPlace> places_;
  std::unique_ptr<Arena> arena_;
  std::vector<BenchCase> cases_;
};

void bench(Backend backend, const std::string& filter, bool has_energy) {
  const DeviceEnv device(backend, 0);
  std::printf("%s\n", device.info().name.c_str());
  const EnergyMeter energy(has_energy ? device.info().pci_bus : "");
  if (backend == Backend::cuda) {
    Bench<bf16>(backend, kLlama7B).run(std::regex(filter), energy);
  } else {
    std::printf("%d threads\n", DeviceEnv::host_threads());
    Bench<float>(backend, kDebug).run(std::regex(filter), energy);
  }
}

}  // namespace
}  // namespace koios

int main(int argc, char** argv) {
  using koios::Backend;
  const std::string name = argc > 1 ? argv[1] : koios::is_built_in(Backend::cuda) ? "cuda" : "host";
  const bool has_energy = argc > 3 && std::string(argv[3]) == "joules";
  if ((name != "host" && name != "cuda") || (argc > 3 && !(has_energy && name == "cuda"))) {
    std::fprintf(
        stderr,
        "usage: bench_kernels [host|cuda] [part of a kernel's name, as a regular expression] "
        "[joules: with cuda]\n");
    return 2;
  }
  try {
    koios::bench(name == "cuda" ? Backend::cuda : Backend::host, argc > 2 ? argv[2] : "",
                 has_energy);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
