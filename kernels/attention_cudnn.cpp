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

#include "core/integers.hpp"
#include "core/unwinding.hpp"
#include "kernels/detail/attention_documents.hpp"
#include "kernels/detail/attention_plan.hpp"
#include "runtime/copy.hpp"
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

/// Names of the tensors in a graph. Those of the documents are far from the ones that the frontend
/// gives to tensors of its own, which count up from 1.
enum Uid : std::int64_t {
  kQ = 1,
  kK,
  kV,
  kO,
  kStats,
  kDo,
  kDq,
  kDk,
  kDv,
  kQueryLengths = 1000,
  kKeyLengths,
  kOffsets  // + index in Plan::offsets
};

/// Documents that are kept apart are sequences of a batch, of any length up to seq_len, whose rows
/// lie one after the other.
struct GraphKey {
  std::int64_t documents;  // with the mask; else 0
  std::int64_t batch, seq_len, kv_len, heads, kv_heads, head_dim;
  std::int64_t q_pitch, k_pitch, v_pitch, o_pitch;
  std::int64_t do_pitch, dq_pitch, dk_pitch, dv_pitch;  // 0 forward

  auto operator<=>(const GraphKey&) const = default;

  explicit GraphKey(const AttentionCall& c)
      : documents(c.shape.document_mask ? DocumentTables(c.documents.count()).documents : 0),
        batch(c.shape.batch),
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
  bool has_documents() const { return documents > 0; }
  std::int64_t rows() const { return batch * seq_len; }
  std::int64_t graph_batch() const { return has_documents() ? documents : batch; }
};

std::string describe(const GraphKey& key) {
  return cat(key.is_backward() ? "backward" : "forward", " attention of ", key.batch,
             " sequences of ", key.seq_len, " tokens",
             key.has_documents() ? cat(" in up to ", key.documents, " documents") : "",
             key.has_earlier_keys() ? cat(" on ", key.kv_len, " keys") : "", ", ", key.heads,
             " heads on ", key.kv_heads, ", head size ", key.head_dim);
}

/// cuDNN may refuse what its documentation allows, by version and GPU: the user has a way out.
void require_good(fe::error_t error, const GraphKey& key, const char* step) {
  if (error.is_good()) return;
  throw UserError(cat("cuDNN ", cudnnGetVersion(), " cannot do the ", describe(key), " (", step,
                      ": ", error.get_message(), "); choose the fallback attention"));
}

/// Earlier versions reserve workspace for whole sequences of each document, or have no groups of
/// query heads.
void require_documents_work(const GraphKey& key) {
  constexpr std::size_t kFirst = 90600;
  if (!key.has_documents() || cudnnGetVersion() >= kFirst) return;
  throw UserError(cat("cuDNN ", cudnnGetVersion(), " cannot do the ", describe(key), ": ", kFirst,
                      " or later can; choose the fallback attention"));
}

constexpr std::int64_t kTableAlignment = 256;

/// The element at which each document begins in rows of `pitch` elements.
struct Offsets {
  Uid of;  // this tensor; a gradient's where its rows are as long
  std::int64_t pitch;
  Tensor tensor;
};

struct Plan {
  std::shared_ptr<fe::graph::Graph> graph = std::make_shared<fe::graph::Graph>();
  std::vector<Offsets> offsets;      // all that the graph has
  std::int64_t graph_bytes = 0;      // of workspace, for cuDNN
  std::int64_t workspace_bytes = 0;  // in all: the documents' tables follow
};

/// A vector of the documents, or of one more.
Tensor make_table(Plan& plan, std::int64_t uid, std::int64_t entries, fe::DataType_t type) {
  return plan.graph->tensor(fe::graph::Tensor_attributes()
                                .set_name(cat("table_", uid))
                                .set_uid(uid)
                                .set_dim({entries, 1, 1, 1})
                                .set_stride({1, 1, 1, 1})
                                .set_data_type(type));
}

/// Null without documents.
Tensor offsets(Plan& plan, const GraphKey& key, Uid of, std::int64_t pitch) {
  if (!key.has_documents()) return nullptr;
  for (const Offsets& made : plan.offsets) {
    if (made.of == of && made.pitch == pitch) return made.tensor;
  }
  const auto tensor = make_table(plan, kOffsets + std::ssize(plan.offsets), key.documents + 1,
                                 fe::DataType_t::INT64);
  plan.offsets.push_back({of, pitch, tensor});
  return tensor;
}

/// [B, heads, tokens, E] as it lies in rows of `pitch` elements.
struct Rows {
  std::vector<std::int64_t> dim, stride;
  Tensor offsets;

  Rows(const GraphKey& key, std::int64_t tokens, std::int64_t heads, std::int64_t pitch,
       Tensor begins)
      : dim({key.graph_batch(), heads, tokens, key.head_dim}),
        stride({tokens * pitch, key.head_dim, pitch, 1}),
        offsets(std::move(begins)) {}
};

/// of: the tensor, or the one whose gradient it is.
Rows query_rows(Plan& plan, const GraphKey& key, Uid of, std::int64_t pitch) {
  return {key, key.seq_len, key.heads, pitch, offsets(plan, key, of, pitch)};
}

Rows key_rows(Plan& plan, const GraphKey& key, Uid of, std::int64_t pitch) {
  return {key, key.kv_len, key.kv_heads, pitch, offsets(plan, key, of, pitch)};
}

Tensor make_tensor(Plan& plan, const char* name, Uid uid, const Rows& rows) {
  return plan.graph->tensor(fe::graph::Tensor_attributes()
                                .set_name(name)
                                .set_uid(uid)
                                .set_dim(rows.dim)
                                .set_stride(rows.stride)
                                .set_ragged_offset(rows.offsets));
}

void set_output(const Tensor& tensor, Uid uid, const Rows& rows) {
  tensor->set_output(true)
      .set_uid(uid)
      .set_dim(rows.dim)
      .set_stride(rows.stride)
      .set_ragged_offset(rows.offsets);
}

/// Of a square, the diagonal begins at the top left all the same.
template <class Attributes>
void set_mask(Plan& plan, Attributes& attributes, const GraphKey& key) {
  if (key.has_documents()) {
    const auto lengths = [&](Uid uid) {
      return make_table(plan, uid, key.documents, fe::DataType_t::INT32);
    };
    attributes.set_padding_mask(true)
        .set_seq_len_q(lengths(kQueryLengths))
        .set_seq_len_kv(lengths(kKeyLengths));
  }
  if (key.has_earlier_keys()) {
    attributes.set_diagonal_alignment(fe::DiagonalAlignment_t::BOTTOM_RIGHT)
        .set_diagonal_band_right_bound(0);
  } else {
    attributes.set_causal_mask(true);
  }
}

/// Of documents token by token: in any other order the frontend reserves too little for sums that
/// it lays out alike.
void describe_stats(Plan& plan, const GraphKey& key, fe::graph::Tensor_attributes& stats) {
  const std::int64_t sequence = key.heads * key.seq_len;
  stats.set_uid(kStats)
      .set_dim({key.graph_batch(), key.heads, key.seq_len, 1})
      .set_data_type(fe::DataType_t::FLOAT);
  if (key.has_documents()) {
    stats.set_stride({sequence, 1, key.heads, 1})
        .set_ragged_offset(offsets(plan, key, kStats, key.heads));
  } else {
    stats.set_stride({sequence, key.seq_len, 1, 1});
  }
}

void describe_forward(Plan& plan, const GraphKey& key, float scale) {
  const auto q = make_tensor(plan, "q", kQ, query_rows(plan, key, kQ, key.q_pitch));
  const auto k = make_tensor(plan, "k", kK, key_rows(plan, key, kK, key.k_pitch));
  const auto v = make_tensor(plan, "v", kV, key_rows(plan, key, kV, key.v_pitch));
  auto attributes = fe::graph::SDPA_attributes()
                        .set_name("attention_forward")
                        .set_generate_stats(true)
                        .set_attn_scale(scale);
  set_mask(plan, attributes, key);
  auto [o, stats] = plan.graph->sdpa(q, k, v, attributes);
  set_output(o, kO, query_rows(plan, key, kO, key.o_pitch));
  stats->set_output(true);
  describe_stats(plan, key, *stats);
}

void describe_backward(Plan& plan, const GraphKey& key, float scale, bool deterministic) {
  const auto q = make_tensor(plan, "q", kQ, query_rows(plan, key, kQ, key.q_pitch));
  const auto k = make_tensor(plan, "k", kK, key_rows(plan, key, kK, key.k_pitch));
  const auto v = make_tensor(plan, "v", kV, key_rows(plan, key, kV, key.v_pitch));
  const auto o = make_tensor(plan, "o", kO, query_rows(plan, key, kO, key.o_pitch));
  const auto d_o = make_tensor(plan, "do", kDo, query_rows(plan, key, kO, key.do_pitch));
  fe::graph::Tensor_attributes stats_attributes;
  stats_attributes.set_name("stats");
  describe_stats(plan, key, stats_attributes);
  const auto stats = plan.graph->tensor(stats_attributes);
  auto attributes = fe::graph::SDPA_backward_attributes()
                        .set_name("attention_backward")
                        .set_attn_scale(scale)
                        .set_deterministic_algorithm(deterministic);
  set_mask(plan, attributes, key);
  if (key.has_documents()) {
    attributes.set_max_total_seq_len_q(key.rows()).set_max_total_seq_len_kv(key.rows());
  }
  auto [dq, dk, dv] = plan.graph->sdpa_backward(q, k, v, o, d_o, stats, attributes);
  set_output(dq, kDq, query_rows(plan, key, kQ, key.dq_pitch));
  set_output(dk, kDk, key_rows(plan, key, kK, key.dk_pitch));
  set_output(dv, kDv, key_rows(plan, key, kV, key.dv_pitch));
}

Plan make_plan(cudnnHandle_t handle, const GraphKey& key, bool deterministic) {
  require_documents_work(key);
  Plan plan;
  plan.graph->set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const float scale = 1 / std::sqrt(static_cast<float>(key.head_dim));
  if (key.is_backward()) {
    describe_backward(plan, key, scale, deterministic);
  } else {
    describe_forward(plan, key, scale);
  }
  require_good(plan.graph->validate(), key, "validate");
  require_good(plan.graph->build_operation_graph(handle), key, "build_operation_graph");
  require_good(plan.graph->create_execution_plans({fe::HeurMode_t::A}), key,
               "create_execution_plans");
  require_good(plan.graph->check_support(handle), key, "check_support");
  require_good(plan.graph->build_plans(handle), key, "build_plans");
  require_good(plan.graph->get_workspace_size(plan.graph_bytes), key, "get_workspace_size");
  plan.workspace_bytes = plan.graph_bytes;
  if (key.has_documents()) {
    plan.graph_bytes = round_up(plan.graph_bytes, kTableAlignment);
    plan.workspace_bytes = plan.graph_bytes + DocumentTables(key.documents).total;
  }
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

  /// Makes the documents' tables behind cuDNN's workspace, and adds them to the tensors. Only
  /// those that the graph has: the frontend gives a name that is in no graph to a tensor of its
  /// own, and a pointer that came with that name then takes the place of its memory.
  void add_tables(Stream& stream, const AttentionCall& call, const GraphKey& key, const Plan& plan,
                  std::unordered_map<std::int64_t, void*>& pointers) {
    const DocumentTables tables(key.documents);
    std::byte* memory = call.workspace.data + plan.graph_bytes;
    pointers[kQueryLengths] = pointers[kKeyLengths] = memory;
    std::vector<std::int64_t> pitches;
    for (const Offsets& offsets : plan.offsets) {
      const std::int64_t i = std::ssize(pitches);
      pointers[kOffsets + i] = memory + tables.offsets + i * tables.step;
      pitches.push_back(offsets.pitch);
    }
    fill_document_tables(stream, tables, memory, pitches, call.documents.begin_D1);
    // Before 9.18 the pass backward over variable lengths leaves parts of its workspace as it finds
    // them, and reads them.
    if (key.is_backward() && cudnnGetVersion() < 91800) {
      fill_zero(stream, {call.workspace.data, plan.graph_bytes / std::int64_t{sizeof(float)},
                         DType::float32});
    }
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
    if (key.has_documents()) add_tables(stream, call, key, plan, pointers);
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
  Impl cudnn;
  cudnn.deterministic = options.deterministic;
  std::int64_t bytes = 1;  // 0 would say that nobody was asked
  const auto ask = [&](AttentionCall call) {
    bytes = std::max(bytes, cudnn.plan(call).workspace_bytes);
    call.d_o = call.dq = call.dk = call.dv = {};
    bytes = std::max(bytes, cudnn.plan(call).workspace_bytes);
  };
  if (!backward.shape.document_mask) {
    ask(backward);
    return bytes;
  }
  for (const std::int64_t count :
       {backward.shape.batch, DocumentTables::largest(backward.shape).documents}) {
    AttentionCall call = backward;
    call.documents.begin_D1 = make_ref<const std::int32_t>(nullptr, count + 1);
    ask(call);
  }
  return bytes;
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
