#include "pipeline/stage_links.hpp"

namespace koios {

StageLink::StageLink(Communicator& pair, int buffers, AnyRef scratch, Stream& compute,
                     ExposedWait& exposed)
    : pair_(pair),
      compute_(compute),
      exposed_(exposed),
      stream_(compute.backend(), pair.name(), -1),
      computed_(compute.backend()) {
  for (int i = 0; i < buffers; ++i) done_.emplace_back(compute.backend());
  pair_.connect(peer(), scratch, compute);
}

void StageLink::await_computation() {
  computed_.record(compute_);
  stream_.wait(computed_);
}

void StageLink::receive(AnyRef into, int buffer, const Event* after) {
  await_computation();
  if (after != nullptr) stream_.wait(*after);
  pair_.recv(into, peer(), stream_);
  done_[static_cast<std::size_t>(buffer)].record(stream_);
}

void StageLink::send(AnyRef from, int buffer) {
  await_computation();
  pair_.send(from, peer(), stream_);
  done_[static_cast<std::size_t>(buffer)].record(stream_);
}

StageLinks::StageLinks(const Mesh& mesh, int inputs, int outputs, int slots, AnyRef scratch,
                       Stream& compute, ExposedWait& exposed) {
  const auto open = [&](std::optional<StageLink>& link, Link which, int buffers) {
    if (Communicator* pair = mesh.link(which))
      link.emplace(*pair, buffers, scratch, compute, exposed);
  };
  // Boundary by boundary in the order of the stages, as Mesh makes them: the ranks at both ends
  // meet, and none waits in a circle.
  const auto open_before = [&] {
    open(activations_in, Link::activations_in, inputs);
    open(gradients_out, Link::gradients_out, slots);
  };
  const bool is_first = mesh.shape().coordinate(mesh.rank(), Axis::pp) == 0;
  if (!is_first) open_before();
  open(activations_out, Link::activations_out, outputs);
  open(gradients_in, Link::gradients_in, slots);
  if (is_first) open_before();  // in a ring
}

}  // namespace koios
