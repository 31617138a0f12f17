// Where a training step's time goes, part by part, beside what the machine allows.
//   bench_step [host|cuda] FLAVOR BATCH SEQ RANKS [MEASURED_STEP_SECONDS]
// Runs the kernels of one rank's step in the step's order and numbers, every block on the same
// buffers, without communication; each call has its own pair of events. Rounds are whole steps, so
// a GPU is as warm, and its power as short, as in training; the medians of the later half count.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

#include "bench_memory.hpp"
#include "config/model_flavors.hpp"
#include "kernels/adamw.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/embedding.hpp"
#include "kernels/reduce.hpp"
#include "kernels/rmsnorm.hpp"
#include "kernels/rope.hpp"
#include "kernels/swiglu.hpp"
#include "model/linear.hpp"
#include "part_times.hpp"
#include "runtime/copy.hpp"
#include "runtime/device.hpp"

namespace koios {
namespace {

template <class T>
class BenchStep {
 public:
  BenchStep(Backend backend, const LlamaShapes& model, const MicroBatchShape& batch, int ranks,
            std::int64_t free_bytes)
      : stream_(backend, "bench"),
        times_(stream_),
        m_(model),
        batch_(batch),
        ranks_(ranks),
        memory_(stream_, model, batch, ranks, free_bytes),
        math_(backend, {}, memory_->workspace) {
    std::printf("%.1f GiB, %.0f%% of the optimizer's share\n",
                std::ldexp(static_cast<double>(memory_.bytes()), -30),
                100 * memory_.optimizer_share());
  }

  void run(double measured) {
    constexpr double kSeconds = 12;
    step();  // chooses algorithms, touches memory
    times_.end_round();
    times_.forget();
    std::vector<double> rounds;
    for (double total = 0; total < kSeconds || rounds.size() < 4; total += rounds.back()) {
      step();
      rounds.push_back(times_.end_round());
    }
    times_.report(PartTimes::median_of_later_half(rounds), measured);
  }

 private:
  Work bytes(double count) const { return {Kind::memory, count}; }
  /// `tensors` of `elements` each, of the compute type.
  Work pass(double tensors, std::int64_t elements) const {
    return bytes(tensors * static_cast<double>(elements) * sizeof(T));
  }
  Work gemm(Ref<T, 2> x, Ref<T, 2> y) const {
    return {Kind::gemm, 2.0 * static_cast<double>(x.size()) * static_cast<double>(y.extent[1])};
  }
  /// Products of the causal half.
  Work attention(double products) const {
    const auto pairs = static_cast<double>(batch_.tokens() * (batch_.seq_len + 1));
    return {Kind::attention, products * pairs * static_cast<double>(m_.dim)};
  }

  struct QkvColumns {
    Ref<T, 2> q, k, v, qk;
  };
  QkvColumns columns(Ref<T, 2> qkv) const {
    const std::int64_t D = m_.dim, KE = m_.n_kv_heads * m_.head_dim();
    return {column_range(qkv, 0, D), column_range(qkv, D, KE), column_range(qkv, D + KE, KE),
            column_range(qkv, 0, D + KE)};
  }
  UnitView<const T> weights(int unit) const { return memory_.weights(unit); }
  UnitView<float> gradients(int unit) const { return memory_.gradients(unit); }

  /// What a gather casts on this rank; nothing where the masters serve.
  void cast_unit(const char* name, int unit) {
    if (std::is_same_v<T, float> && ranks_ == 1) return;
    const UnitLayout& u = memory_.shared_unit(unit);
    const BenchBuffers<T>& b = *memory_;
    const double each = sizeof(float) + sizeof(T);
    times_.time(name, bytes(each * static_cast<double>(u.shard_size)), [&] {
      for (const ParameterLayout& p : u.parameters) {
        const std::int64_t at = p.shard_offset - u.shard_offset;
        cast<T, float>(stream_, slice(b.gathered, at, p.part_size()),
                       slice(b.master, p.shard_offset, p.part_size()));
      }
    });
  }

  void step() {
    BenchBuffers<T>& b = *memory_;
    const std::int64_t ND = b.previous_SD.size();
    cast_unit("cast: embedding", kEmbedding);
    times_.time("embedding forward", pass(2, ND), [&] {
      embedding_forward<T>(stream_, b.previous_SD, b.token_N, weights(kEmbedding).matrix(0));
    });
    forward();
    head();
    for (std::int64_t layer = 0; layer < m_.n_layers; ++layer) {
      if (layer > 0) forward();  // backward spoils what forward left
      backward();
    }
    const Ref<float, 2> d_table = gradients(kEmbedding).matrix(0);
    times_.time("embedding fill_zero", bytes(4 * static_cast<double>(d_table.size())),
                [&] { fill_zero(stream_, any(d_table)); });
    const auto summed = static_cast<double>(memory_.sort().token_S.size() * m_.dim);
    times_.time("embedding backward", bytes(pass(1, ND).amount + 8 * summed),
                [&] { embedding_backward<T>(stream_, d_table, b.model.dx_SD, memory_.sort()); });
    optimizer();
  }

  // One GEMM (parameters first..last of the unit, stacked), its work from the matrices it gets.
  void gemm_forward(const char* name, int unit, int first, int last, Ref<T, 2> y, Ref<T, 2> x) {
    times_.time(cat(name, " forward"), gemm(x, y), [&] {
      stacked_forward<T>(math_, stream_, y, x, weights(unit).stacked(first, last));
    });
  }
  void dgrad(const char* name, int unit, int first, int last, Ref<T, 2> dx, Ref<T, 2> dy) {
    times_.time(cat(name, " dgrad"), gemm(dx, dy), [&] {
      stacked_backward_input<T>(math_, stream_, dx, dy, weights(unit).stacked(first, last));
    });
  }
  void wgrad(const char* name, int unit, int first, int last, Ref<T, 2> dy, Ref<T, 2> x,
             Write write = Write::overwrite) {
    times_.time(cat(name, " wgrad"), gemm(x, dy), [&] {
      stacked_backward_weight<T>(math_, stream_, gradients(unit).stacked(first, last), dy, x,
                                 write);
    });
  }
  void norm(const char* name, int unit, int weight, Ref<T, 2> sum, Ref<T, 2> y, Ref<float, 1> rstd,
            Ref<T, 2> x) {
    times_.time(name, pass(4, x.size()), [&] {
      add_rmsnorm_forward<T>(stream_, sum, y, rstd, x, memory_->model.delta_SD,
                             weights(unit).vector(weight), m_.norm_eps);
    });
  }
  void norm_backward(const char* name, int unit, int weight, Ref<T, 2> dresidual, Ref<T, 2> x,
                     Ref<float, 1> rstd) {
    LlamaBuffers<T>& b = memory_->model;
    times_.time(name, pass(dresidual.data == nullptr ? 3 : 4, x.size()), [&] {
      rmsnorm_backward<T>(stream_, b.dx_SD, gradients(unit).vector(weight), b.norm_partial_PD,
                          b.d_normed_SD, dresidual, x, rstd, weights(unit).vector(weight),
                          Write::overwrite);
    });
  }

  // The block's and the head's calls are those of model/block.cpp and model/head.cpp.
  void forward() {
    Stream& s = stream_;
    LlamaBuffers<T>& b = memory_->model;
    BlockSaved<T>& v = b.block.front();
    cast_unit("cast: block", kBlock);
    norm("add_rmsnorm", kBlock, kAttentionNorm, v.x_SD, v.normed1_SD, v.rstd1_S,
         memory_->previous_SD);
    gemm_forward("qkv", kBlock, kWq, kWv, v.qkv_NQ, v.normed1_SD);
    const auto [q, k, value, qk] = columns(v.qkv_NQ);
    times_.time("rope forward", pass(2, qk.size()), [&] { rope_forward<T>(s, qk, b.rope_TE); });
    times_.time("attention forward", attention(2), [&] {
      attention_forward<T>(math_, s, attention_, v.attention_NA, v.lse_BHT, q, k, value,
                           b.attention_workspace);
    });
    gemm_forward("wo", kBlock, kWo, kWo, b.delta_SD, v.attention_NA);
    norm("add_rmsnorm", kBlock, kFfnNorm, v.mid_SD, v.normed2_SD, v.rstd2_S, v.x_SD);
    gemm_forward("w1|w3", kBlock, kW1, kW3, v.gate_up_N2F, v.normed2_SD);
    times_.time("swiglu forward", pass(3, v.activated_NF.size()),
                [&] { swiglu_forward<T>(s, v.activated_NF, v.gate_up_N2F); });
    gemm_forward("w2", kBlock, kW2, kW2, b.delta_SD, v.activated_NF);
  }

  void backward() {
    Stream& s = stream_;
    LlamaBuffers<T>& b = memory_->model;
    BlockSaved<T>& v = b.block.front();
    cast_unit("cast: block", kBlock);
    dgrad("w2", kBlock, kW2, kW2, b.d_activated_NF, b.dx_SD);
    wgrad("w2", kBlock, kW2, kW2, b.dx_SD, v.activated_NF);
    times_.time("swiglu backward", pass(5, v.activated_NF.size()),
                [&] { swiglu_backward<T>(s, v.gate_up_N2F, b.d_activated_NF, v.gate_up_N2F); });
    dgrad("w1|w3", kBlock, kW1, kW3, b.d_normed_SD, v.gate_up_N2F);
    wgrad("w1|w3", kBlock, kW1, kW3, v.gate_up_N2F, v.normed2_SD);
    norm_backward("rmsnorm backward", kBlock, kFfnNorm, b.dx_SD, v.mid_SD, v.rstd2_S);
    dgrad("wo", kBlock, kWo, kWo, b.d_attention_NA, b.dx_SD);
    wgrad("wo", kBlock, kWo, kWo, b.dx_SD, v.attention_NA);
    const auto [q, k, value, qk] = columns(v.qkv_NQ);
    const auto [dq, dk, d_value, d_qk] = columns(b.d_qkv_NQ);
    times_.time("attention backward", attention(5), [&] {
      attention_backward<T>(math_, s, attention_, dq, dk, d_value, b.d_attention_NA, v.attention_NA,
                            v.lse_BHT, q, k, value, b.attention_workspace);
    });
    times_.time("rope backward", pass(2, d_qk.size()),
                [&] { rope_backward<T>(s, d_qk, b.rope_TE); });
    dgrad("qkv", kBlock, kWq, kWv, b.d_normed_SD, b.d_qkv_NQ);
    wgrad("qkv", kBlock, kWq, kWv, b.d_qkv_NQ, v.normed1_SD);
    norm_backward("rmsnorm backward", kBlock, kAttentionNorm, b.dx_SD, v.x_SD, v.rstd1_S);
  }

  void head() {
    LlamaBuffers<T>& b = memory_->model;
    const std::int64_t tokens = batch_.tokens(), chunk = b.logits_CV.extent[0];
    const float scale = 1 / static_cast<float>(tokens * ranks_);
    cast_unit("cast: head", kHead);
    norm("head add_rmsnorm", kHead, kFinalNorm, b.x_SD, b.normed_SD, b.rstd_S,
         b.block.front().mid_SD);
    for (std::int64_t first = 0; first < tokens; first += chunk) {
      const std::int64_t count = std::min(chunk, tokens - first);
      const Ref<T, 2> logits = row_range(b.logits_CV, 0, count);
      const Ref<T, 2> normed = row_range(b.normed_SD, first, count);
      gemm_forward("head", kHead, kOutput, kOutput, logits, normed);
      times_.time("head cross entropy", pass(2, logits.size()), [&] {
        cross_entropy_forward_backward<T>(stream_, slice(b.loss_N, first, count), logits,
                                          slice(memory_->label_N, first, count), scale);
      });
      dgrad("head", kHead, kOutput, kOutput, row_range(b.d_normed_SD, first, count), logits);
      wgrad("head", kHead, kOutput, kOutput, logits, normed,
            first == 0 ? Write::overwrite : Write::accumulate);
    }
    norm_backward("head rmsnorm backward", kHead, kFinalNorm, {}, b.x_SD, b.rstd_S);
  }

  void optimizer() {
    Stream& s = stream_;
    BenchBuffers<T>& b = *memory_;
    const auto size = static_cast<double>(b.master.size());
    const double share = memory_.optimizer_share();
    const auto squares = [&] {
      sum_of_squares(s, b.norm_squared, b.gradient_shard, b.partials, false);
    };
    times_.time("sum_of_squares", bytes(4 * size), squares, share);
    const auto adam = [&] {
      adam_update(s, b.master, b.exp_avg, b.exp_avg_sq, b.gradient_shard, b.scale,
                  {.lr = 1e-6, .weight_decay = 0.1});
    };
    times_.time("adam_update", bytes(28 * size), adam, share);
    const double copied = 8 * static_cast<double>(memory_.copy_size());
    times_.time("(a copy, for the limit)", {Kind::reference, copied}, [&] { memory_.copy(s); });
  }

  Stream stream_;
  PartTimes times_;
  LlamaShapes m_;
  MicroBatchShape batch_;
  int ranks_;
  AttentionShape attention_ = attention_shape(m_, batch_);
  BenchMemory<T> memory_;
  MathHandles math_;
};

int bench(int argc, char** argv) {
  const auto text = [&](int i, const char* or_else) { return i < argc ? argv[i] : or_else; };
  const std::string name = text(1, is_built_in(Backend::cuda) ? "cuda" : "host");
  const bool cuda = name == "cuda";
  const ModelFlavor* f = find_flavor(text(2, cuda ? "7B" : "debugmodel"));
  const MicroBatchShape batch{std::atoll(text(3, cuda ? "2" : "4")),
                              std::atoll(text(4, cuda ? "4096" : "512"))};
  const int ranks = std::atoi(text(5, cuda ? "2" : "1"));
  if ((!cuda && name != "host") || f == nullptr || batch.tokens() < 1 || ranks < 1) {
    std::fprintf(stderr, "usage: bench_step [host|cuda] FLAVOR BATCH SEQ RANKS [STEP_SECONDS]\n");
    return 2;
  }
  const LlamaShapes model{.dim = f->dim,
                          .n_layers = f->n_layers,
                          .n_heads = f->n_heads,
                          .n_kv_heads = f->n_kv_heads > 0 ? f->n_kv_heads : f->n_heads,
                          .ffn_dim = ffn_hidden_dim(f->dim, f->multiple_of, f->ffn_dim_multiplier),
                          .vocab_size = 32000};
  const Backend backend = cuda ? Backend::cuda : Backend::host;
  const DeviceEnv device(backend, 0);
  std::printf("%s\n%s, batch %lld x %lld, shared by %d\n", device.info().name.c_str(),
              std::string(f->name).c_str(), static_cast<long long>(batch.batch_size),
              static_cast<long long>(batch.seq_len), ranks);
  const std::int64_t free = device.info().free_bytes;
  const double measured = std::atof(text(6, "0"));
  cuda ? BenchStep<bf16>(backend, model, batch, ranks, free).run(measured)
       : BenchStep<float>(backend, model, batch, ranks, free).run(measured);
  return 0;
}

}  // namespace
}  // namespace koios

int main(int argc, char** argv) {
  try {
    return koios::bench(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
