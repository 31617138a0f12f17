#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "checkpoint/checksum.hpp"
#include "checkpoint/detail/h5_handle.hpp"
#include "checkpoint/detail/h5_values.hpp"
#include "checkpoint/detail/posix_file.hpp"
#include "checkpoint/detail/slice_blocks.hpp"
#include "checkpoint/detail/write_slices.hpp"

namespace koios::checkpoint {
namespace {

using h5::check;

/// Of one collective write and rank.
constexpr std::int64_t kPieceBytes = std::int64_t{16} << 20;

/// The rows of the slice, in pieces.
std::vector<Range> row_pieces(const SavedArray& array) {
  if (!array.is_owner || array.here.size() == 0) return {};
  const std::int64_t row_bytes = array.here.cols.count * size_of(array.type);
  return in_pieces({0, array.here.rows.count}, std::max<std::int64_t>(kPieceBytes / row_bytes, 1));
}

/// The values of some of a slice's rows in one buffer, and their share of the checksum.
class RowValues {
 public:
  explicit RowValues(HostAccess& access) : values_(access) {}

  const std::byte* fetch(const SavedArray& array, const Range& rows, std::uint64_t& sum) {
    const std::int64_t size = size_of(array.type);
    const std::int64_t cols = array.here.cols.count;
    const Range all = {rows.first * cols, rows.count * cols};
    buffer_.resize(static_cast<std::size_t>(all.count * size));
    for (const Range& values : in_pieces(all, block_size(array))) {
      const SliceBlock block = {.values = values, .element_size = size};
      const std::byte* bytes = values_.fetch(array, values);
      for (const Run& run : block.runs(array)) {
        sum += checksum(bytes + run.in_block, size, run.elements);
      }
      std::memcpy(buffer_.data() + (values.first - all.first) * size, bytes,
                  static_cast<std::size_t>(block.bytes()));
    }
    return buffer_.data();
  }

 private:
  FileValues values_;
  std::vector<std::byte> buffer_;
};

h5::File open_on_all(const std::filesystem::path& path, const RankGroup& ranks) {
  const h5::PropertyList access(check(H5Pcreate(H5P_FILE_ACCESS), "H5Pcreate"));
  check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110),
        "H5Pset_libver_bounds");
  check(
      H5Pset_fapl_mpio(access.get(), *static_cast<const MPI_Comm*>(ranks.native()), MPI_INFO_NULL),
      "H5Pset_fapl_mpio");
  check(H5Pset_all_coll_metadata_ops(access.get(), true), "H5Pset_all_coll_metadata_ops");
  check(H5Pset_coll_metadata_write(access.get(), true), "H5Pset_coll_metadata_write");
  return h5::File(check(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.get()), "H5Fopen"));
}

h5::PropertyList collective_transfer() {
  h5::PropertyList transfer(check(H5Pcreate(H5P_DATASET_XFER), "H5Pcreate"));
  check(H5Pset_dxpl_mpio(transfer.get(), H5FD_MPIO_COLLECTIVE), "H5Pset_dxpl_mpio");
  return transfer;
}

/// Collective; a null `bytes` takes part with nothing.
void write_rows(hid_t dataset, hid_t transfer, const SavedArray& array, const Range& rows,
                const std::byte* bytes) {
  const h5::Space whole(check(H5Dget_space(dataset), "H5Dget_space"));
  std::vector<std::int64_t> extents = {rows.count};
  if (!array.is_vector) extents.push_back(array.here.cols.count);
  const h5::Space local = h5::space_of(extents);
  if (bytes == nullptr) {
    check(H5Sselect_none(whole.get()), "H5Sselect_none");
    check(H5Sselect_none(local.get()), "H5Sselect_none");
  } else {
    const std::array start = {static_cast<hsize_t>(array.here.rows.first + rows.first),
                              static_cast<hsize_t>(array.here.cols.first)};
    const std::array count = {static_cast<hsize_t>(rows.count),
                              static_cast<hsize_t>(array.here.cols.count)};
    check(H5Sselect_hyperslab(whole.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(),
                              nullptr),
          "H5Sselect_hyperslab");
  }
  check(
      H5Dwrite(dataset, h5::file_type(array.type).get(), local.get(), whole.get(), transfer, bytes),
      "H5Dwrite");
}

}  // namespace

std::vector<std::uint64_t> write_parallel_hdf5(const RankGroup& ranks,
                                               const std::filesystem::path& path,
                                               std::span<const SavedArray> arrays,
                                               HostAccess& access) {
  const h5::Quiet quiet;
  // What keeps one rank from the file must be heard of before the others wait for it inside MPI.
  ranks.together([&] { PosixFile(path, PosixFile::Mode::write); });
  h5::File file;
  h5::PropertyList transfer;
  ranks.together([&] {
    file = open_on_all(path, ranks);
    transfer = collective_transfer();
  });

  // Every rank takes part in every write, so all go by the rank with most pieces of an array.
  std::vector<std::int64_t> most;
  for (const SavedArray& array : arrays) most.push_back(std::ssize(row_pieces(array)));
  ranks.all_keep_largest(most, 1);

  RowValues values(access);
  std::vector<std::uint64_t> sums(arrays.size(), 0);
  for (std::size_t a = 0; a < arrays.size(); ++a) {
    const SavedArray& array = arrays[a];
    h5::Dataset dataset;
    ranks.together([&] {
      dataset =
          h5::Dataset(check(H5Dopen2(file.get(), array.name.c_str(), H5P_DEFAULT), "H5Dopen2"));
    });
    const std::vector<Range> pieces = row_pieces(array);
    for (std::size_t i = 0; i < static_cast<std::size_t>(most[a]); ++i) {
      Range rows;
      const std::byte* bytes = nullptr;
      // A rank that fails here must not leave the others in the collective write.
      ranks.together([&] {
        if (i >= pieces.size()) return;
        rows = pieces[i];
        bytes = values.fetch(array, rows, sums[a]);
      });
      ranks.together([&] { write_rows(dataset.get(), transfer.get(), array, rows, bytes); });
    }
  }
  ranks.together([&] {
    check(H5Fflush(file.get(), H5F_SCOPE_GLOBAL), "H5Fflush");
    file = h5::File();
    PosixFile(path, PosixFile::Mode::write).sync();
  });
  return sums;
}

}  // namespace koios::checkpoint
