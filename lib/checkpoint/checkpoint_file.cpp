#include "checkpoint/checkpoint_file.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "checkpoint/checksum.hpp"
#include "checkpoint/convert.hpp"
#include "checkpoint/detail/posix_file.hpp"
#include "checkpoint/detail/structure.hpp"
#include "core/error.hpp"
#include "core/stopwatch.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;
using checkpoint::PosixFile;
using checkpoint::StoredArray;
using checkpoint::Structure;

std::vector<std::int64_t> shape_of(const SavedArray& array) {
  if (array.is_vector) return {array.rows};
  return {array.rows, array.cols};
}

Structure structure_of(const CheckpointHead& head, std::span<const SavedArray> arrays) {
  Structure structure{head, {}};
  for (const SavedArray& array : arrays) {
    structure.arrays.push_back({array.name, array.type, shape_of(array), 0, 0});
  }
  return structure;
}

/// On rank 0: the file with room for everything in it.
Structure make_file(const fs::path& path, const Structure& wanted, std::int64_t alignment) {
  // Before HDF5 has it open, because HDF5 does not get over a full disk.
  PosixFile(path, PosixFile::Mode::create).reserve(checkpoint::largest_size(wanted, alignment));
  Structure made = checkpoint::create_file(path, wanted, alignment);
  PosixFile file(path, PosixFile::Mode::write);
  file.reserve(file.size());
  return made;
}

/// One slice's values in the form of the file, block by block.
class FileValues {
 public:
  FileValues(const SavedArray& array, HostAccess& access) : array_(array), access_(access) {}

  const std::byte* fetch(std::int64_t first, std::int64_t count) {
    const float* values = access_.fetch(array_.data + first, count);
    if (array_.type == FileType::float32) return reinterpret_cast<const std::byte*>(values);
    converted_.resize(static_cast<std::size_t>(count * size_of(array_.type)));
    convert_to(array_.type, converted_.data(), values, count);
    return converted_.data();
  }

 private:
  const SavedArray& array_;
  HostAccess& access_;
  std::vector<std::byte> converted_;
};

/// Calls visit(bytes, run, byte offset in the file) for every run of the slice.
template <class Visit>
void for_each_run(const SavedArray& array, std::int64_t offset, HostAccess& access,
                  const Visit& visit) {
  FileValues values(array, access);
  const std::int64_t size = size_of(array.type);
  const std::int64_t block = block_size(array);
  for (std::int64_t first = 0; first < array.local_size(); first += block) {
    const std::int64_t count = std::min(block, array.local_size() - first);
    const std::byte* bytes = values.fetch(first, count);
    for (const Run& run : runs_of(array, first, count)) {
      visit(bytes + (run.local_first - first) * size, run, offset + run.global_first * size);
    }
  }
}

/// Most values that are handled together.
std::int64_t largest_block(std::span<const SavedArray> arrays) {
  std::int64_t largest = 0;
  for (const SavedArray& array : arrays) largest = std::max(largest, array.local_size());
  return std::min(largest, HostAccess::kBlock);
}

/// Before the block at `first` is read: has the disk work kReadAhead blocks ahead of it.
void read_ahead(const PosixFile& file, const SavedArray& array, std::int64_t offset,
                std::int64_t size, std::int64_t first) {
  constexpr std::int64_t kReadAhead = 16;
  if (array.local_cols != array.cols) return;
  const std::int64_t block = block_size(array);
  const std::int64_t from = first == 0 ? 0 : first + (kReadAhead - 1) * block;
  const std::int64_t end = std::min(first + kReadAhead * block, array.local_size());
  if (from >= end) return;
  const Run run = runs_of(array, from, end - from).front();
  file.will_need(offset + run.global_first * size, run.count * size);
}

/// This rank's slices to the disk; returns their share of each checksum.
std::vector<std::uint64_t> write_slices(PosixFile& file, const Structure& made,
                                        std::span<const SavedArray> arrays, HostAccess& access) {
  std::vector<std::uint64_t> sums;
  for (const SavedArray& array : arrays) {
    std::uint64_t sum = 0;
    if (array.is_owner) {
      const std::int64_t size = size_of(array.type);
      for_each_run(array, made.find(array.name).offset, access,
                   [&](const std::byte* bytes, const Run& run, std::int64_t at) {
                     sum += checksum(bytes, size, run.global_first, run.count);
                     file.write_at(at, bytes, run.count * size);
                   });
    }
    sums.push_back(sum);
  }
  file.sync();
  return sums;
}

void compare_slices(const fs::path& path, PosixFile& file, const Structure& made,
                    std::span<const SavedArray> arrays, HostAccess& access) {
  file.drop_cache();
  std::vector<std::byte> read(static_cast<std::size_t>(largest_block(arrays)) * sizeof(float));
  for (const SavedArray& array : arrays) {
    if (!array.is_owner) continue;
    const std::int64_t size = size_of(array.type);
    for_each_run(array, made.find(array.name).offset, access,
                 [&](const std::byte* bytes, const Run& run, std::int64_t at) {
                   const std::int64_t length = run.count * size;
                   read_ahead(file, array, made.find(array.name).offset, size, run.local_first);
                   file.read_at(at, read.data(), length);
                   if (std::memcmp(read.data(), bytes, static_cast<std::size_t>(length)) == 0)
                     return;
                   throw UserError(cat(path.string(), ": what was read back of /", array.name,
                                       " differs from what was written: do not trust this disk"));
                 });
  }
}

/// On rank 0: the checksums go in, all that is not values is read back, and the file gets its name.
void finish_file(const fs::path& partial, const fs::path& path, const Structure& made) {
  checkpoint::write_checksums(partial, made.arrays);
  PosixFile file(partial, PosixFile::Mode::write);
  file.sync();
  file.drop_cache();
  const Structure read = checkpoint::read_file(partial);
  if (read.arrays != made.arrays || read.head != made.head) {
    throw UserError(cat(partial.string(),
                        ": what was read back of its structure differs from what "
                        "was written: do not trust this disk"));
  }
  fs::rename(partial, path);
  checkpoint::sync_folder(path.parent_path());
}

}  // namespace

std::string describe_io() {
  return cat("pwrite by each rank, HDF5 ", checkpoint::hdf5_version(), " by rank 0");
}

SaveReport write_checkpoint(const CheckpointRanks& ranks, const fs::path& path,
                            const CheckpointHead& head, std::span<const SavedArray> arrays,
                            HostAccess& access, std::int64_t alignment) {
  const fs::path partial = path.string() + ".partial";
  SaveReport report;
  Stopwatch watch;
  try {
    std::string made_text;
    ranks.on_root(
        [&] { made_text = to_text(make_file(partial, structure_of(head, arrays), alignment)); });
    Structure made = checkpoint::structure_from_text(ranks.broadcast(made_text));
    std::vector<std::uint64_t> sums;
    ranks.together([&] {
      PosixFile file(partial, PosixFile::Mode::write);
      sums = write_slices(file, made, arrays, access);
      report.write_s = watch.lap();
    });
    // Only now that all have written: what a neighbour does to this rank's bytes must be seen. And
    // opened again, which is when network file systems look at the server.
    ranks.together([&] {
      PosixFile file(partial, PosixFile::Mode::write);
      compare_slices(path, file, made, arrays, access);
    });
    ranks.sum(sums);
    std::map<std::string, std::uint64_t> by_name;
    for (std::size_t i = 0; i < arrays.size(); ++i) by_name[arrays[i].name] = sums[i];
    for (StoredArray& array : made.arrays) array.checksum = by_name[array.name];
    ranks.on_root([&] {
      finish_file(partial, path, made);
      report.bytes = static_cast<std::int64_t>(fs::file_size(path));
    });
  } catch (const std::exception&) {
    std::error_code ignored;
    if (ranks.is_root()) fs::remove(partial, ignored);
    throw;
  }
  report.verify_s = watch.lap();
  return report;
}

struct CheckpointReader::Content {
  Structure structure;
};

CheckpointReader::CheckpointReader(const CheckpointRanks& ranks, fs::path path)
    : ranks_(ranks), path_(std::move(path)) {
  std::string text;
  ranks.on_root([&] { text = to_text(checkpoint::read_file(path_)); });
  content_ =
      std::make_unique<Content>(Content{checkpoint::structure_from_text(ranks.broadcast(text))});
}

CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

const CheckpointHead& CheckpointReader::head() const { return content_->structure.head; }

void CheckpointReader::read(std::span<const SavedArray> arrays, HostAccess& access) const {
  std::vector<std::uint64_t> sums(arrays.size(), 0);
  ranks_.together([&] {
    const PosixFile file(path_, PosixFile::Mode::read);
    std::vector<std::byte> narrow_bytes(static_cast<std::size_t>(largest_block(arrays)) *
                                        sizeof(float));
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      const SavedArray& array = arrays[a];
      const StoredArray& stored = content_->structure.find(array.name);
      if (stored.shape != shape_of(array)) {
        throw UserError(cat("/", array.name, " has another shape than this model's"));
      }
      if (a + 1 < arrays.size()) {
        const StoredArray& next = content_->structure.find(arrays[a + 1].name);
        read_ahead(file, arrays[a + 1], next.offset, size_of(next.type), 0);
      }
      const std::int64_t size = size_of(stored.type);
      const std::int64_t block = block_size(array);
      for (std::int64_t first = 0; first < array.local_size(); first += block) {
        const std::int64_t count = std::min(block, array.local_size() - first);
        read_ahead(file, array, stored.offset, size, first);
        float* values = access.landing(array.data + first);
        const bool is_wide = stored.type == FileType::float32;
        std::byte* bytes = is_wide ? reinterpret_cast<std::byte*>(values) : narrow_bytes.data();
        for (const Run& run : runs_of(array, first, count)) {
          std::byte* at = bytes + (run.local_first - first) * size;
          file.read_at(stored.offset + run.global_first * size, at, run.count * size);
          if (array.is_owner) sums[a] += checksum(at, size, run.global_first, run.count);
        }
        if (!is_wide) convert_from(stored.type, values, bytes, count);
        access.store(array.data + first, count);
      }
    }
  });
  ranks_.sum(sums);
  for (std::size_t a = 0; a < arrays.size(); ++a) {
    if (sums[a] != content_->structure.find(arrays[a].name).checksum) {
      throw UserError(cat("the values of /", arrays[a].name, " do not have their checksum"));
    }
  }
}

}  // namespace koios
