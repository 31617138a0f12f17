#include "model/local_shape.hpp"

#include "core/integers.hpp"

namespace koios {

LocalShape::LocalShape(const ModelSpec& model, const TensorParallelOptions& tensor,
                       const MicroBatchShape& batch)
    : tokens(batch.tokens()),
      rows(div_exact(tokens, tensor.ranks)),
      heads(div_exact(model.n_heads, tensor.ranks)),
      kv_heads(div_exact(model.n_kv_heads, tensor.ranks)),
      q_cols(heads * model.head_dim()),
      kv_cols(kv_heads * model.head_dim()),
      ffn(div_exact(model.ffn_dim, tensor.ranks)),
      vocab(div_exact(model.vocab_size, tensor.ranks)),
      attention{batch.batch_size, batch.seq_len,    heads,
                kv_heads,         model.head_dim(), batch.document_mask} {}

}  // namespace koios
