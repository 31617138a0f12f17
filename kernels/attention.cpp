#include "kernels/attention.hpp"

#include <algorithm>

#include "kernels/detail/attention_cudnn.hpp"
#include "kernels/detail/attention_host.hpp"
#include "kernels/detail/attention_plan.hpp"
#include "kernels/detail/math_impl.hpp"
#include "runtime/region.hpp"

namespace koios {
namespace {

template <class T>
void require_tensor(Ref<T, 2> m, const AttentionShape& shape, std::int64_t tokens,
                    std::int64_t heads, const char* name) {
  KOIOS_REQUIRE(m.extent[0] == shape.batch * tokens && m.extent[1] == heads * shape.head_dim &&
                    m.pitch >= m.extent[1],
                name, " is ", m.extent[0], "x", m.extent[1], " with a pitch of ", m.pitch, "; ",
                shape.batch, " sequences of ", tokens, " tokens with ", heads, " heads of size ",
                shape.head_dim, " are expected");
}

template <class T>
void require_queries(Ref<T, 2> m, const AttentionShape& shape, const char* name) {
  require_tensor(m, shape, shape.seq_len, shape.heads, name);
}

template <class T>
void require_keys(Ref<T, 2> m, const AttentionShape& shape, const char* name) {
  require_tensor(m, shape, shape.kv_len(), shape.kv_heads, name);
}

void require_shape(const AttentionShape& shape) {
  KOIOS_REQUIRE(shape.batch > 0 && shape.seq_len > 0 && shape.kv_heads > 0 && shape.heads > 0 &&
                    shape.head_dim > 0 && shape.earlier_keys >= 0,
                "empty attention");
  KOIOS_REQUIRE(shape.heads % shape.kv_heads == 0, shape.heads, " heads share ", shape.kv_heads);
  KOIOS_REQUIRE(shape.head_dim % 2 == 0 && shape.head_dim <= 256, "head size ", shape.head_dim);
}

void require_documents(const Documents& documents, const AttentionShape& shape) {
  const std::int64_t rows = shape.batch * shape.seq_len;
  const std::int64_t expected = shape.document_mask ? rows : 0;
  KOIOS_REQUIRE(documents.start_BT.size() == expected, "document starts of ",
                documents.start_BT.size(), " tokens; expected: of ", expected);
  const bool are_listed = shape.document_mask && !shape.sequence_parts && shape.earlier_keys == 0;
  KOIOS_REQUIRE(!are_listed || (documents.count() >= shape.batch && documents.count() <= rows),
                documents.count(), " documents in ", shape.batch, " sequences of ", shape.seq_len,
                " tokens");
}

template <class T>
void require_workspace(Backend backend, const MathHandles& math, const AttentionShape& shape,
                       Ref<std::byte, 1> workspace) {
  const auto needed =
      attention_workspace_bytes(backend, math.options(), shape, std::int64_t{sizeof(T)});
  KOIOS_REQUIRE(workspace.size() >= needed, "attention workspace of ", workspace.size(),
                " bytes; needed are ", needed);
}

/// Products over the causal half, `count` of them for each query head.
Work causal_products(const AttentionShape& shape, double count) {
  const auto pairs = static_cast<double>(shape.batch * shape.seq_len *
                                         (2 * shape.earlier_keys + shape.seq_len + 1));
  return {.flops = count * pairs * static_cast<double>(shape.heads * shape.head_dim)};
}

}  // namespace

std::int64_t attention_workspace_bytes(Backend backend, const MathOptions& options,
                                       const AttentionShape& shape, std::int64_t element_bytes) {
  require_shape(shape);
  if (backend == Backend::host) return detail::attention_host_workspace_bytes(shape);
  const std::int64_t fallback = detail::FallbackTiling(shape, element_bytes).total;
  if (!detail::uses_cudnn(options, shape, element_bytes)) return fallback;
  const std::int64_t told = options.attention_workspace_bytes;
  const std::int64_t cudnn =
      told > 0 ? told : detail::attention_cudnn_workspace_bytes(shape, options.deterministic);
  // A batch of very many documents goes to the fallback.
  return shape.document_mask ? std::max(cudnn, fallback) : cudnn;
}

std::int64_t ask_attention_workspace_bytes(const MathOptions& options, const AttentionShape& shape,
                                           DType dtype, const AttentionPitches& pitches) {
  require_shape(shape);
  if (!detail::uses_cudnn(options, shape, size_of(dtype))) return 0;
  const auto matrix = [&](std::int64_t tokens, std::int64_t heads, std::int64_t pitch) {
    return detail::Matrix{nullptr, shape.batch * tokens, heads * shape.head_dim, pitch, dtype};
  };
  const detail::Matrix q = matrix(shape.seq_len, shape.heads, pitches.q);
  const detail::Matrix k = matrix(shape.kv_len(), shape.kv_heads, pitches.kv);
  const detail::Matrix o = matrix(shape.seq_len, shape.heads, pitches.o);
  return detail::AttentionCudnn::plans_bytes(options, {.shape = shape,
                                                       .dtype = dtype,
                                                       .q = q,
                                                       .k = k,
                                                       .v = k,
                                                       .o = o,
                                                       .d_o = o,
                                                       .dq = q,
                                                       .dk = k,
                                                       .dv = k});
}

std::string why_fallback_attention(const MathOptions& options, const AttentionShape& shape,
                                   DType dtype) {
  if (options.attention != AttentionKind::automatic) return "";
  return detail::cudnn_obstacle(options, shape, size_of(dtype));
}

template <class T>
void attention_forward(MathHandles& math, Stream& s, const AttentionShape& shape, Ref<T, 2> o,
                       Ref<float, 1> lse_BHT, Ref<const T, 2> q, Ref<const T, 2> k,
                       Ref<const T, 2> v, Ref<std::byte, 1> workspace, const Documents& documents) {
  require_shape(shape);
  require_queries(o, shape, "o");
  require_queries(q, shape, "q");
  require_keys(k, shape, "k");
  require_keys(v, shape, "v");
  KOIOS_REQUIRE(lse_BHT.size() == shape.batch * shape.heads * shape.seq_len, "lse of ",
                lse_BHT.size());
  require_documents(documents, shape);
  require_workspace<T>(s.backend(), math, shape, workspace);
  const Region region(s, "attention", causal_products(shape, 2));
  math.impl().attention_forward(s, {.shape = shape,
                                    .dtype = dtype_of<T>,
                                    .q = detail::matrix(q),
                                    .k = detail::matrix(k),
                                    .v = detail::matrix(v),
                                    .o = detail::matrix(o),
                                    .lse_BHT = lse_BHT.data,
                                    .documents = documents,
                                    .workspace = workspace});
}

template <class T>
void attention_backward(MathHandles& math, Stream& s, const AttentionShape& shape, Ref<T, 2> dq,
                        Ref<T, 2> dk, Ref<T, 2> dv, Ref<const T, 2> d_o, Ref<const T, 2> o,
                        Ref<const float, 1> lse_BHT, Ref<const T, 2> q, Ref<const T, 2> k,
                        Ref<const T, 2> v, Ref<std::byte, 1> workspace,
                        const Documents& documents) {
  require_shape(shape);
  for (const auto& [tensor, name] :
       {std::pair{Ref<const T, 2>(dq), "dq"}, {d_o, "d_o"}, {o, "o"}, {q, "q"}}) {
    require_queries(tensor, shape, name);
  }
  for (const auto& [tensor, name] :
       {std::pair{Ref<const T, 2>(dk), "dk"}, {Ref<const T, 2>(dv), "dv"}, {k, "k"}, {v, "v"}}) {
    require_keys(tensor, shape, name);
  }
  KOIOS_REQUIRE(lse_BHT.size() == shape.batch * shape.heads * shape.seq_len, "lse of ",
                lse_BHT.size());
  require_documents(documents, shape);
  require_workspace<T>(s.backend(), math, shape, workspace);
  const Region region(s, "attention backward", causal_products(shape, 5));
  math.impl().attention_backward(s, {.shape = shape,
                                     .dtype = dtype_of<T>,
                                     .q = detail::matrix(q),
                                     .k = detail::matrix(k),
                                     .v = detail::matrix(v),
                                     .o = detail::matrix(o),
                                     .d_o = detail::matrix(d_o),
                                     .dq = detail::matrix(dq),
                                     .dk = detail::matrix(dk),
                                     .dv = detail::matrix(dv),
                                     .lse_BHT = const_cast<float*>(lse_BHT.data),
                                     .documents = documents,
                                     .workspace = workspace});
}

#define KOIOS_INSTANTIATE(T)                                                                   \
  template void attention_forward<T>(MathHandles&, Stream&, const AttentionShape&, Ref<T, 2>,  \
                                     Ref<float, 1>, Ref<const T, 2>, Ref<const T, 2>,          \
                                     Ref<const T, 2>, Ref<std::byte, 1>, const Documents&);    \
  template void attention_backward<T>(MathHandles&, Stream&, const AttentionShape&, Ref<T, 2>, \
                                      Ref<T, 2>, Ref<T, 2>, Ref<const T, 2>, Ref<const T, 2>,  \
                                      Ref<const float, 1>, Ref<const T, 2>, Ref<const T, 2>,   \
                                      Ref<const T, 2>, Ref<std::byte, 1>, const Documents&);
KOIOS_INSTANTIATE(float)
KOIOS_INSTANTIATE(bf16)
#undef KOIOS_INSTANTIATE

}  // namespace koios
