#include "kernels/detail/attention_cudnn.hpp"

#include <cudnn_frontend.h>

#include <algorithm>
#include <cmath>
#include <compare>
#include <map>
#include <source_location>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/unwinding.hpp"
#include "kernels/detail/attention_plan.hpp"
#include "runtime/handle.hpp"

namespace koios::detail {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

/// Destroying waits for the device, where a collective may be spinning for a rank that is gone: not
/// under an exception, which ends the job.
void close_cudnn(cudnnHandle_t handle) {
  if (!is_unwinding()) cudnnDestroy(handle);
}
using CudnnHandle = Handle<cudnnHandle_t, &close_cudnn>;

void check(cudnnStatus_t status, const char* call,
           std::source_location where = std::source_location::current()) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  throw LibraryError("cuDNN", call, cudnnGetErrorString(status), where);
}

/// Names of the tensors in a graph.
enum Uid : std::int64_t { kQ = 1, kK, kV, kO, kStats, kDo, kDq, kDk, kDv };

struct GraphKey {
  std::int64_t batch, seq_len, kv_len, heads, kv_heads, head_dim;
  std::int64_t q_pitch, k_pitch, v_pitch, o_pitch;
  std::int64_t do_pitch, dq_pitch, dk_pitch, dv_pitch;  // 0 forward

  auto operator<=>(const GraphKey&) const = default;

  explicit GraphKey(const AttentionCall& c)
      : batch(c.shape.batch),
        seq_len(c.shape.seq_len),
        kv_len(c.shape.kv_len()),
        heads(c.shape.heads),
        kv_heads(c.shape.kv_heads),
        head_dim(c.shape.head_dim),
        q_pitch(c.q.pitch),
        k_pitch(c.k.pitch),
        v_pitch(c.v.pitch),
        o_pitch(c.o.pitch),
        do_pitch(c.d_o.pitch),
        dq_pitch(c.dq.pitch),
        dk_pitch(c.dk.pitch),
        dv_pitch(c.dv.pitch) {}

  bool is_backward() const { return dq_pitch != 0; }
  bool has_earlier_keys() const { return kv_len > seq_len; }
};

std::string describe(const GraphKey& key) {
  return cat(key.is_backward() ? "backward" : "forward", " attention of ", key.batch,
             " sequences of ", key.seq_len, " tokens",
             key.has_earlier_keys() ? cat(" on ", key.kv_len, " keys") : "", ", ", key.heads,
             " heads on ", key.kv_heads, ", head size ", key.head_dim);
}

/// cuDNN may refuse what its documentation allows, by version and GPU: the user has a way out.
void require_good(fe::error_t error, const GraphKey& key, const char* step) {
  if (error.is_good()) return;
  throw UserError(cat("cuDNN ", cudnnGetVersion(), " cannot do the ", describe(key), " (", step,
                      ": ", error.get_message(), "); choose the fallback attention"));
}

struct Plan {
  std::shared_ptr<fe::graph::Graph> graph;
  std::int64_t workspace_bytes = 0;
};

/// [B, heads, tokens, E] as it lies in rows of `pitch` elements.
struct Rows {
  std::vector<std::int64_t> dim, stride;

  Rows(const GraphKey& key, std::int64_t tokens, std::int64_t heads, std::int64_t pitch)
      : dim({key.batch, heads, tokens, key.head_dim}),
        stride({tokens * pitch, key.head_dim, pitch, 1}) {}
};

Rows query_rows(const GraphKey& key, std::int64_t pitch) {
  return {key, key.seq_len, key.heads, pitch};
}

Rows key_rows(const GraphKey& key, std::int64_t pitch) {
  return {key, key.kv_len, key.kv_heads, pitch};
}

Tensor make_tensor(fe::graph::Graph& graph, const char* name, Uid uid, const Rows& rows) {
  return graph.tensor(
      fe::graph::Tensor_attributes().set_name(name).set_uid(uid).set_dim(rows.dim).set_stride(
          rows.stride));
}

void set_output(const Tensor& tensor, Uid uid, const Rows& rows) {
  tensor->set_output(true).set_uid(uid).set_dim(rows.dim).set_stride(rows.stride);
}

/// Of a square, the diagonal begins at the top left all the same.
template <class Attributes>
void set_mask(Attributes& attributes, const GraphKey& key) {
  if (key.has_earlier_keys()) {
    attributes.set_diagonal_alignment(fe::DiagonalAlignment_t::BOTTOM_RIGHT)
        .set_diagonal_band_right_bound(0);
  } else {
    attributes.set_causal_mask(true);
  }
}

void describe_stats(const GraphKey& key, fe::graph::Tensor_attributes& stats) {
  stats.set_uid(kStats)
      .set_dim({key.batch, key.heads, key.seq_len, 1})
      .set_stride({key.heads * key.seq_len, key.seq_len, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

void describe_forward(fe::graph::Graph& graph, const GraphKey& key, float scale) {
  const auto q = make_tensor(graph, "q", kQ, query_rows(key, key.q_pitch));
  const auto k = make_tensor(graph, "k", kK, key_rows(key, key.k_pitch));
  const auto v = make_tensor(graph, "v", kV, key_rows(key, key.v_pitch));
  auto attributes = fe::graph::SDPA_attributes()
                        .set_name("attention_forward")
                        .set_generate_stats(true)
                        .set_attn_scale(scale);
  set_mask(attributes, key);
  auto [o, stats] = graph.sdpa(q, k, v, attributes);
  set_output(o, kO, query_rows(key, key.o_pitch));
  stats->set_output(true);
  describe_stats(key, *stats);
}

void describe_backward(fe::graph::Graph& graph, const GraphKey& key, float scale,
                       bool deterministic) {
  const auto q = make_tensor(graph, "q", kQ, query_rows(key, key.q_pitch));
  const auto k = make_tensor(graph, "k", kK, key_rows(key, key.k_pitch));
  const auto v = make_tensor(graph, "v", kV, key_rows(key, key.v_pitch));
  const auto o = make_tensor(graph, "o", kO, query_rows(key, key.o_pitch));
  const auto d_o = make_tensor(graph, "do", kDo, query_rows(key, key.do_pitch));
  fe::graph::Tensor_attributes stats_attributes;
  stats_attributes.set_name("stats");
  describe_stats(key, stats_attributes);
  const auto stats = graph.tensor(stats_attributes);
  auto attributes = fe::graph::SDPA_backward_attributes()
                        .set_name("attention_backward")
                        .set_attn_scale(scale)
                        .set_deterministic_algorithm(deterministic);
  set_mask(attributes, key);
  auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, o, d_o, stats, attributes);
  set_output(dq, kDq, query_rows(key, key.dq_pitch));
  set_output(dk, kDk, key_rows(key, key.dk_pitch));
  set_output(dv, kDv, key_rows(key, key.dv_pitch));
}

Plan make_plan(cudnnHandle_t handle, const GraphKey& key, bool deterministic) {
  Plan plan;
  plan.graph = std::make_shared<fe::graph::Graph>();
  plan.graph->set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const float scale = 1 / std::sqrt(static_cast<float>(key.head_dim));
  if (key.is_backward()) {
    describe_backward(*plan.graph, key, scale, deterministic);
  } else {
    describe_forward(*plan.graph, key, scale);
  }
  require_good(plan.graph->validate(), key, "validate");
  require_good(plan.graph->build_operation_graph(handle), key, "build_operation_graph");
  require_good(plan.graph->create_execution_plans({fe::HeurMode_t::A}), key,
               "create_execution_plans");
  require_good(plan.graph->check_support(handle), key, "check_support");
  require_good(plan.graph->build_plans(handle), key, "build_plans");
  require_good(plan.graph->get_workspace_size(plan.workspace_bytes), key, "get_workspace_size");
  return plan;
}

}  // namespace

struct AttentionCudnn::Impl {
  bool deterministic = false;
  CudnnHandle handle;  // opened by the first call: loading cuDNN takes time and memory
  std::map<GraphKey, Plan> plans;

  void open() {
    if (handle) return;
    cudnnHandle_t raw = nullptr;
    check(cudnnCreate(&raw), "cudnnCreate");
    handle = CudnnHandle(raw);
  }

  const Plan& plan(const AttentionCall& call) {
    open();
    const GraphKey key(call);
    auto found = plans.find(key);
    if (found == plans.end()) {
      found = plans.emplace(key, make_plan(handle.get(), key, deterministic)).first;
    }
    return found->second;
  }

  void run(Stream& stream, const AttentionCall& call,
           std::unordered_map<std::int64_t, void*> pointers) {
    open();
    check(cudnnSetStream(handle.get(), static_cast<cudaStream_t>(stream.native())),
          "cudnnSetStream");
    const Plan& plan = this->plan(call);
    const GraphKey key(call);
    if (plan.workspace_bytes > call.workspace.size()) {
      throw UserError(cat("cuDNN ", cudnnGetVersion(), " wants ", plan.workspace_bytes,
                          " bytes of workspace for the ", describe(key),
                          ", and the memory plan has ", call.workspace.size(),
                          ": choose the fallback attention, or train without job/deterministic"));
    }
    auto error = plan.graph->execute(handle.get(), pointers, call.workspace.data);
    if (!error.is_good()) {
      throw LibraryError("cuDNN", "execute", cat(error.get_message(), " in the ", describe(key)),
                         std::source_location::current());
    }
  }
};

bool has_cudnn() { return true; }

std::int64_t AttentionCudnn::plans_bytes(const MathOptions& options,
                                         const AttentionCall& backward) {
  AttentionCall forward = backward;
  forward.d_o = forward.dq = forward.dk = forward.dv = {};
  Impl cudnn;
  cudnn.deterministic = options.deterministic;
  const std::int64_t bytes =
      std::max(cudnn.plan(forward).workspace_bytes, cudnn.plan(backward).workspace_bytes);
  return std::max<std::int64_t>(bytes, 1);  // 0 would say that nobody was asked
}

AttentionCudnn::AttentionCudnn(const MathOptions& options) : impl_(std::make_unique<Impl>()) {
  impl_->deterministic = options.deterministic;
}
AttentionCudnn::~AttentionCudnn() = default;

std::int64_t AttentionCudnn::version() { return static_cast<std::int64_t>(cudnnGetVersion()); }

namespace {

void* pointer(const Matrix& m) { return const_cast<void*>(m.data); }

}  // namespace

void AttentionCudnn::forward(Stream& stream, const AttentionCall& call) {
  impl_->run(stream, call,
             {{kQ, pointer(call.q)},
              {kK, pointer(call.k)},
              {kV, pointer(call.v)},
              {kO, pointer(call.o)},
              {kStats, call.lse_BHT}});
}

void AttentionCudnn::backward(Stream& stream, const AttentionCall& call) {
  impl_->run(stream, call,
             {{kQ, pointer(call.q)},
              {kK, pointer(call.k)},
              {kV, pointer(call.v)},
              {kO, pointer(call.o)},
              {kStats, call.lse_BHT},
              {kDo, pointer(call.d_o)},
              {kDq, pointer(call.dq)},
              {kDk, pointer(call.dk)},
              {kDv, pointer(call.dv)}});
}

}  // namespace koios::detail
