// The libraries behind GEMM and attention: cuBLASLt and cuDNN handles, their workspace and the
// chosen algorithms on CUDA; nothing on the host. One per rank.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/choices.hpp"
#include "core/ref.hpp"
#include "runtime/stream.hpp"

namespace koios {

struct MathOptions {
  AttentionKind attention = AttentionKind::automatic;
  bool deterministic = false;
  /// Where the GEMM choices of earlier runs are kept; empty: chosen anew each time.
  std::string gemm_cache_file{};
  /// A file like that to be read, too; empty: none.
  std::string more_gemm_choices{};
  /// What cuDNN's plans want, as ask_attention_workspace_bytes was told; 0: a bound is taken.
  std::int64_t attention_workspace_bytes = 0;
};

class MathHandles {
 public:
  /// workspace: device memory for the libraries, at least gemm_workspace_bytes(backend). Since it
  /// is one, the products of a MathHandles go to one stream at a time.
  MathHandles(Backend backend, const MathOptions& options, Ref<std::byte, 1> workspace);
  MathHandles(const MathHandles&) = delete;
  MathHandles& operator=(const MathHandles&) = delete;
  ~MathHandles();

  static std::int64_t gemm_workspace_bytes(Backend backend);

  struct Impl;
  Impl& impl() const { return *impl_; }
  const MathOptions& options() const { return options_; }

 private:
  MathOptions options_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace koios
