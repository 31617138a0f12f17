#include "train/sent_bytes.hpp"

#include <initializer_list>
#include <utility>

#include "core/error.hpp"
#include "core/readable.hpp"

namespace koios {
namespace {

template <class F>
SentBytes each(const SentBytes& a, const F& f) {
  SentBytes out;
  for (const auto part : {&SentBytes::all_gather_bytes, &SentBytes::reduce_scatter_bytes,
                          &SentBytes::replica_all_reduce_bytes, &SentBytes::tensor_all_gather_bytes,
                          &SentBytes::tensor_reduce_scatter_bytes, &SentBytes::tensor_send_bytes,
                          &SentBytes::all_reduce_bytes, &SentBytes::context_all_gather_bytes,
                          &SentBytes::context_reduce_scatter_bytes, &SentBytes::pipeline_bytes}) {
    out.*part = f(a.*part, part);
  }
  return out;
}

}  // namespace

SentBytes SentBytes::operator+(const SentBytes& other) const {
  return each(*this, [&](std::int64_t bytes, auto part) { return bytes + other.*part; });
}

SentBytes SentBytes::operator-(const SentBytes& other) const {
  return each(*this, [&](std::int64_t bytes, auto part) { return bytes - other.*part; });
}

SentBytes SentBytes::operator/(std::int64_t steps) const {
  return each(*this, [&](std::int64_t bytes, auto /*part*/) { return bytes / steps; });
}

SentBytes measured_bytes(const Mesh& mesh) {
  SentBytes sent;
  sent.all_gather_bytes = mesh.shard_gather().traffic().all_gather_bytes;
  sent.reduce_scatter_bytes = mesh.shard_reduce().traffic().reduce_scatter_bytes;
  sent.replica_all_reduce_bytes = mesh.replicate().traffic().all_reduce_bytes;
  for (const Communicator* link : mesh.links()) sent.pipeline_bytes += link->traffic().send_bytes;
  if (mesh.context().size() > 1) {
    for (const Communicator* group : {&mesh.context(), &mesh.context_reversed()}) {
      sent.context_all_gather_bytes += group->traffic().all_gather_bytes;
      sent.context_reduce_scatter_bytes += group->traffic().reduce_scatter_bytes;
    }
  }
  if (mesh.tp().size() == 1) return sent;
  const Traffic& tensor = mesh.tp().traffic();
  sent.tensor_all_gather_bytes = tensor.all_gather_bytes;
  sent.tensor_reduce_scatter_bytes = tensor.reduce_scatter_bytes;
  sent.tensor_send_bytes = tensor.send_bytes;
  sent.all_reduce_bytes = tensor.all_reduce_bytes;
  if (&mesh.world() != &mesh.tp()) sent.all_reduce_bytes += mesh.world().traffic().all_reduce_bytes;
  sent.all_reduce_bytes += mesh.shard_reduce().traffic().all_reduce_bytes;  // scales of weights
  return sent;
}

std::vector<std::string> describe_traffic(std::string_view kind, const SentBytes& of_step,
                                          const MeshShape& mesh) {
  std::vector<std::string> lines;
  using Parts = std::initializer_list<std::pair<const char*, std::int64_t>>;
  const auto add = [&](const char* whose, const Parts& parts) {
    std::string text;
    for (const auto& [what, bytes] : parts) {
      text += cat(text.empty() ? "" : ", ", what, with_commas(bytes), " bytes");
    }
    lines.push_back(cat(whose, "traffic ", kind, " per rank and step: ", text, " sent"));
  };
  add("", {{"all-gather ", of_step.all_gather_bytes},
           {"reduce-scatter ", of_step.reduce_scatter_bytes}});
  if (mesh.size(Axis::dp_replicate) > 1) {
    add("replica ", {{"all-reduce ", of_step.replica_all_reduce_bytes}});
  }
  if (mesh.size(Axis::tp) > 1) {
    add("tensor-parallel ", {{"all-gather ", of_step.tensor_all_gather_bytes},
                             {"reduce-scatter ", of_step.tensor_reduce_scatter_bytes},
                             {"all-reduce ", of_step.all_reduce_bytes},
                             {"exchanges ", of_step.tensor_send_bytes}});
  }
  if (mesh.size(Axis::cp) > 1) {
    add("context-parallel ", {{"all-gather ", of_step.context_all_gather_bytes},
                              {"reduce-scatter ", of_step.context_reduce_scatter_bytes}});
  }
  if (mesh.size(Axis::pp) > 1) add("pipeline ", {{"", of_step.pipeline_bytes}});
  return lines;
}

}  // namespace koios
