#include "pipeline/stage_links.hpp"

#include "runtime/region.hpp"

namespace koios {

StageLink::StageLink(Communicator& pair, AnyRef scratch, Stream& compute)
    : pair_(pair),
      compute_(compute),
      stream_(compute.backend(), pair.name(), -1),
      computed_(compute.backend()) {
  pair_.connect(peer(), scratch, compute);
}

void StageLink::await_computation() {
  computed_.record(compute_);
  stream_.wait(computed_);
}

void StageLink::receive(AnyRef into, Event& done, const Event* after) {
  await_computation();
  if (after != nullptr) stream_.wait(*after);
  const Region region(stream_, "receive", passes_over(into));
  pair_.recv(into, peer(), stream_);
  done.record(stream_);
}

void StageLink::send(AnyRef from, Event& done) {
  await_computation();
  const Region region(stream_, "send", passes_over(from));
  pair_.send(from, peer(), stream_);
  done.record(stream_);
}

StageLinks::StageLinks(const Mesh& mesh, const std::vector<int>& path, const StageShape& shape,
                       AnyRef scratch, Stream& compute, ExposedWait& exposed)
    : exposed_(exposed) {
  // The ranks at both ends meet, since they have their links in one order.
  for (Communicator* pair : mesh.links()) {
    StageLink& link = links_.try_emplace(pair, *pair, scratch, compute).first->second;
    streams_.push_back(&link.stream());
  }
  const int stage = mesh.shape().coordinate(mesh.rank(), Axis::pp);
  const auto find = [&](Link which, int before, int after) {
    return &links_.at(&mesh.link(which, before, after));
  };
  for (std::size_t visit = 0; visit < path.size(); ++visit) {
    if (path[visit] != stage) continue;
    Ends& ends = ends_.emplace_back();
    if (visit > 0 && path[visit - 1] != stage) {
      ends.activations_in = find(Link::activations, path[visit - 1], stage);
      ends.gradients_out = find(Link::gradients, path[visit - 1], stage);
    }
    if (visit + 1 < path.size() && path[visit + 1] != stage) {
      ends.activations_out = find(Link::activations, stage, path[visit + 1]);
      ends.gradients_in = find(Link::gradients, stage, path[visit + 1]);
    }
  }
  const auto make_events = [&](std::vector<Event>& events, int count) {
    for (int i = 0; i < count; ++i) events.emplace_back(compute.backend());
  };
  make_events(received_, shape.inputs());
  make_events(sent_, shape.outputs());
  make_events(received_gradient_, shape.slots());
  make_events(sent_gradient_, shape.slots());
}

void StageLinks::receive(int run, AnyRef into, int input) {
  ends(run).activations_in->receive(into, of(received_, input));
}

void StageLinks::send(int run, AnyRef from, int output) {
  ends(run).activations_out->send(from, of(sent_, output));
}

void StageLinks::receive_gradient(int run, AnyRef into, int slot) {
  // It may be where that of another micro-batch is still on its way from.
  ends(run).gradients_in->receive(into, of(received_gradient_, slot), &of(sent_gradient_, slot));
}

void StageLinks::send_gradient(int run, AnyRef from, int slot) {
  ends(run).gradients_out->send(from, of(sent_gradient_, slot));
}

}  // namespace koios
