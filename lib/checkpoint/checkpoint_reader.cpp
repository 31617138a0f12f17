#include "checkpoint/checkpoint_reader.hpp"

#include <utility>

#include "checkpoint/checksum.hpp"
#include "checkpoint/convert.hpp"
#include "checkpoint/detail/posix_file.hpp"
#include "checkpoint/detail/read_ahead.hpp"
#include "checkpoint/detail/slice_blocks.hpp"
#include "checkpoint/detail/structure.hpp"
#include "core/error.hpp"

namespace koios {

using checkpoint::PosixFile;
using checkpoint::SliceBlock;

struct CheckpointReader::Content {
  checkpoint::Structure structure;
};

CheckpointReader::CheckpointReader(const RankGroup& ranks, std::filesystem::path path)
    : ranks_(ranks), path_(std::move(path)) {
  std::string text;
  ranks.on_root([&] { text = to_text(checkpoint::read_file(path_)); });
  content_ =
      std::make_unique<Content>(Content{checkpoint::structure_from_text(ranks.broadcast(text))});
}

CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

const CheckpointHead& CheckpointReader::head() const { return content_->structure.head; }

DType CheckpointReader::type_of(const std::string& name) const {
  return content_->structure.find(name).type;
}

void CheckpointReader::read(std::span<const SavedArray> arrays, HostAccess& access) const {
  for (const SavedArray& array : arrays) {
    const checkpoint::StoredArray& stored = content_->structure.find(array.name);
    if (stored.shape != array.shape()) {
      throw UserError(cat("/", array.name, " has another shape than this model's"));
    }
    if (stored.type == DType::float64 || stored.type == DType::int64) {
      throw UserError(
          cat("/", array.name, " is ", to_string(stored.type), ", not a type of weights"));
    }
  }
  std::vector<std::uint64_t> sums(arrays.size(), 0);
  ranks_.together([&] { read_slices(arrays, access, sums); });
  ranks_.all_sum(sums);
  for (std::size_t a = 0; a < arrays.size(); ++a) {
    if (sums[a] != content_->structure.find(arrays[a].name).checksum) {
      throw UserError(cat("the values of /", arrays[a].name, " do not have their checksum"));
    }
  }
}

void CheckpointReader::read_slices(std::span<const SavedArray> arrays, HostAccess& access,
                                   std::vector<std::uint64_t>& sums) const {
  const PosixFile file(path_, PosixFile::Mode::read);
  const auto blocks = checkpoint::blocks_of(arrays, content_->structure, checkpoint::Slices::all);
  checkpoint::ReadAhead reader(file, arrays, blocks);
  for (const SliceBlock& block : blocks) {
    const SavedArray& array = arrays[block.array];
    const std::byte* bytes = reader.next();
    if (array.is_owner) {
      for (const checkpoint::Run& run : block.runs(array)) {
        sums[block.array] += checksum(bytes + run.in_block, block.element_size, run.elements);
      }
    }
    const AnyRef values = slice(array.values, block.values);
    convert(values.dtype, access.landing(values), content_->structure.find(array.name).type, bytes,
            values.count);
    access.store(values);
  }
}

}  // namespace koios
