#include "data/same_data.hpp"

#include <string>
#include <vector>

#include "core/error.hpp"
#include "data/saved_position.hpp"

namespace koios {

void require_same_data(const SequenceState& start, const MpiEnv& mpi) {
  require_same_data(hash_of(save_position(start)), mpi);
}

void require_same_data(std::uint64_t hash, const MpiEnv& mpi) {
  const std::vector<std::string> all = mpi.all_gather(cat(hash, " ", mpi.host()));
  const auto hash_of = [](const std::string& text) { return text.substr(0, text.find(' ')); };
  const auto host_of = [](const std::string& text) { return text.substr(text.find(' ') + 1); };
  std::string others;
  int count = 0;
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    if (hash_of(all[rank]) == hash_of(all[0])) continue;
    if (++count <= 4) others += cat(others.empty() ? "" : ", ", rank, " on ", host_of(all[rank]));
  }
  if (count == 0) return;
  throw UserError(cat(count, count == 1 ? " rank reads" : " ranks read",
                      " other data than rank 0 on ", host_of(all[0]), " (", others,
                      count > 4 ? ", ..." : "",
                      "): the files of training/dataset_path or data/mixture, and of ",
                      "model/tokenizer_path, must be the same on every node"));
}

}  // namespace koios
