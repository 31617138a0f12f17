#include "checkpoint/checkpoint_file.hpp"

#include <cstring>
#include <map>

#include "checkpoint/detail/mpi_io.hpp"
#include "checkpoint/detail/posix_file.hpp"
#include "checkpoint/detail/read_ahead.hpp"
#include "checkpoint/detail/slice_blocks.hpp"
#include "checkpoint/detail/structure.hpp"
#include "checkpoint/detail/write_slices.hpp"
#include "core/error.hpp"
#include "core/stopwatch.hpp"

namespace koios {
namespace {

namespace fs = std::filesystem;
using checkpoint::PosixFile;
using checkpoint::StoredArray;
using checkpoint::Structure;

Structure structure_of(const CheckpointHead& head, std::span<const SavedArray> arrays) {
  Structure structure{head, {}};
  for (const SavedArray& array : arrays) {
    structure.arrays.push_back({array.name, array.type, array.shape(), 0, 0});
  }
  return structure;
}

/// On rank 0: the file with room for everything in it. HDF5 makes it in memory: on a full disk it
/// crashes, and making it on the disk would give reserved space back for a moment.
Structure make_file(const fs::path& path, const Structure& wanted, std::int64_t alignment) {
  PosixFile file(path, PosixFile::Mode::create);
  file.reserve(checkpoint::largest_size(wanted, alignment));
  const PosixFile made = PosixFile::in_memory();
  Structure structure = checkpoint::create_file(made.path(), wanted, alignment);
  file.reserve(made.size());
  file.resize(made.size());
  made.copy_written_to(file);
  return structure;
}

std::vector<std::uint64_t> write_slices(const RankGroup& ranks, const fs::path& path,
                                        const Structure& made, std::span<const SavedArray> arrays,
                                        HostAccess& access, WriteMethod method) {
  if (method == WriteMethod::parallel_hdf5) {
    return checkpoint::write_parallel_hdf5(ranks, path, arrays, access);
  }
  std::vector<std::uint64_t> sums;
  ranks.together([&] { sums = checkpoint::write_direct(path, made, arrays, access); });
  return sums;
}

void compare_slices(const fs::path& path, const Structure& made, std::span<const SavedArray> arrays,
                    HostAccess& access) {
  // Opened anew, which is when network file systems look at the server.
  const PosixFile file(path, PosixFile::Mode::read);
  const auto blocks = checkpoint::blocks_of(arrays, made, checkpoint::Slices::owned);
  checkpoint::ReadAhead reader(file, arrays, blocks);
  checkpoint::FileValues values(access);
  for (const checkpoint::SliceBlock& block : blocks) {
    const SavedArray& array = arrays[block.array];
    const std::byte* written = values.fetch(array, block.values);
    if (std::memcmp(reader.next(), written, static_cast<std::size_t>(block.bytes())) == 0) continue;
    throw UserError(cat(path.string(), ": what was read back of /", array.name,
                        " differs from what was written: do not trust this disk"));
  }
}

/// On rank 0: the checksums go in, all that is not values is read back, and the file gets its name.
void finish_file(const fs::path& partial, const fs::path& path, const Structure& made) {
  checkpoint::write_checksums(partial, made.arrays);
  PosixFile file(partial, PosixFile::Mode::write);
  file.sync();
  file.drop_cache();
  // Bits: a loss that is no number does not even equal itself.
  if (to_text(checkpoint::read_file(partial)) != to_text(made)) {
    throw UserError(cat(partial.string(),
                        ": what was read back of its structure differs from what "
                        "was written: do not trust this disk"));
  }
  fs::rename(partial, path);
  checkpoint::sync_folder(path.parent_path());
}

}  // namespace

std::string describe_io(WriteMethod method, const fs::path& folder) {
  const std::string hdf5 = cat("HDF5 ", checkpoint::hdf5_version());
  if (method == WriteMethod::direct) return cat("pwrite by each rank, ", hdf5, " by rank 0");
  return cat("parallel ", hdf5, " over ", checkpoint::describe_mpi_io(folder));
}

SaveReport write_checkpoint(const RankGroup& ranks, const fs::path& path,
                            const CheckpointHead& head, std::span<const SavedArray> arrays,
                            HostAccess& access, const WriteOptions& options) {
  const fs::path partial = path.string() + ".partial";
  SaveReport report;
  Stopwatch watch;
  try {
    std::string made_text;
    ranks.on_root([&] {
      made_text = to_text(make_file(partial, structure_of(head, arrays), options.alignment));
    });
    Structure made = checkpoint::structure_from_text(ranks.broadcast(made_text));
    std::vector<std::uint64_t> sums =
        write_slices(ranks, partial, made, arrays, access, options.method);
    report.write_s = watch.lap();
    // Only now that all have written: what a neighbour does to this rank's bytes must be seen. And
    // on all before any reads: forgetting takes from others what was read ahead for them.
    ranks.together([&] { PosixFile(partial, PosixFile::Mode::write).drop_cache(); });
    ranks.together([&] { compare_slices(partial, made, arrays, access); });
    ranks.all_sum(sums);
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

}  // namespace koios
