// bench_checkpoint FOLDER [MiB]: how fast checkpoints are written and read beside what the same
// disk gives plain writes of the same bytes, in the same run. Started by mpirun; MiB is of all
// ranks together. Every figure includes bringing the data to the disk (fsync), and reads come after
// the system was asked to forget what it has of the file. Best and median of the rounds, taken in
// turn.
#include <fcntl.h>
#include <hdf5.h>
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_file.hpp"
#include "checkpoint/checkpoint_reader.hpp"
#include "core/error.hpp"
#include "core/stopwatch.hpp"
#include "runtime/mpi_env.hpp"

namespace {

using namespace koios;
namespace fs = std::filesystem;

constexpr int kRounds = 3;
constexpr std::int64_t kCols = 4096;
constexpr std::int64_t kBlockBytes = std::int64_t{16} << 20;  // of one plain write or read

void require(bool holds, const char* what) {
  if (!holds) throw UserError(cat(what, " failed"));
}

int open_file(const fs::path& path, int flags) {
  const int fd = ::open(path.c_str(), flags, 0666);
  if (fd < 0) throw UserError(cat("cannot open ", path.string(), ": ", std::strerror(errno)));
  return fd;
}

/// Matrices like a model's: one large, many of 16 MiB and many small, split by rows.
struct Arrays {
  std::vector<float> memory;
  std::vector<SavedArray> saved;

  Arrays(const RankGroup& ranks, std::int64_t total_bytes) {
    std::vector<std::int64_t> rows = {total_bytes / 4 / (kCols * 4)};
    for (std::int64_t left = total_bytes / (kCols * 4) - rows[0]; left > 0; left -= 1025) {
      rows.push_back(std::min<std::int64_t>(left, 1024));
      rows.push_back(1);
    }
    std::int64_t elements = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      SavedArray a{.name = cat("model/array", i), .rows = rows[i], .cols = kCols};
      const std::int64_t first = rows[i] * ranks.rank() / ranks.size();
      a.here = {{first, rows[i] * (ranks.rank() + 1) / ranks.size() - first}, {0, kCols}};
      elements += a.here.size();
      saved.push_back(a);
    }
    memory.resize(static_cast<std::size_t>(elements));
    for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i % 9973);
    float* at = memory.data();
    for (SavedArray& a : saved) {
      a.values = any(make_ref(at, a.here.size()));
      at += a.here.size();
    }
  }
  std::int64_t bytes() const { return std::ssize(memory) * 4; }
};

class Bench {
 public:
  Bench(const RankGroup& ranks, fs::path folder, std::int64_t total_bytes)
      : ranks_(ranks), folder_(std::move(folder)), arrays_(ranks, total_bytes) {
    std::vector<std::uint64_t> sizes = {static_cast<std::uint64_t>(arrays_.bytes())};
    ranks_.all_sum(sizes);
    total_ = static_cast<double>(sizes[0]);
    first_byte_ = arrays_.bytes() * ranks_.rank();
  }

  void run() {
    const fs::path plain = folder_ / "bench_plain";
    const fs::path ours = folder_ / "bench_step.h5";
    for (int round = 0; round < kRounds; ++round) {
      remove_files();  // a checkpoint is a new file each time, so all are
      measure("write: plain pwrite, as dd does", [&] { write_plain(plain); });
      measure("write: MPI-IO, collective", [&] { write_mpi(folder_ / "bench_mpi"); });
      measure("write: plain parallel HDF5, collective", [&] { write_hdf5(folder_ / "bench.h5"); });
      for (const std::int64_t alignment : {std::int64_t{1}, std::int64_t{4} << 10,
                                           std::int64_t{1} << 20, WriteOptions().alignment}) {
        save(ours, cat("direct, arrays at multiples of ", alignment), {.alignment = alignment});
      }
      save(folder_ / "bench_mpi.h5", "parallel_hdf5", {.method = WriteMethod::parallel_hdf5});
      forget(plain);
      measure("read: plain pread, as dd does", [&] { read_plain(plain); });
      forget(plain);
      measure("read: plain pread, array by array", [&] { read_slices(plain); });
      forget(ours);
      measure("read: Koios, checksums verified",
              [&] { CheckpointReader(ranks_, ours).read(arrays_.saved, access_); });
    }
    remove_files();
    print();
  }

 private:
  void remove_files() {
    ranks_.on_root([&] {
      for (const char* name :
           {"bench_plain", "bench_mpi", "bench.h5", "bench_step.h5", "bench_mpi.h5"}) {
        fs::remove(folder_ / name);
      }
    });
  }

  void measure(const std::string& name, const std::function<void()>& work) {
    ::sync();  // what others have left to write
    MPI_Barrier(MPI_COMM_WORLD);
    const Stopwatch watch;
    work();
    MPI_Barrier(MPI_COMM_WORLD);
    add(name, watch.seconds());
  }
  void add(const std::string& name, double seconds) {
    if (!seconds_.contains(name)) names_.push_back(name);
    seconds_[name].push_back(seconds);
  }

  void save(const fs::path& path, const std::string& how, const WriteOptions& options) {
    ranks_.on_root([&] { fs::remove(path); });
    ::sync();
    MPI_Barrier(MPI_COMM_WORLD);
    const SaveReport report = write_checkpoint(ranks_, path, {}, arrays_.saved, access_, options);
    add(cat("write: Koios, ", how), report.write_s);
    const WriteOptions usual;
    if (options.method == usual.method && options.alignment == usual.alignment) {
      add("  read back from the disk, compared, renamed", report.verify_s);
    }
  }

  void write_plain(const fs::path& path) {
    const int fd = open_file(path, O_RDWR | O_CREAT);
    each_block([&](std::byte* data, std::int64_t at, std::int64_t bytes) {
      require(::pwrite(fd, data, static_cast<std::size_t>(bytes), at) == bytes, "pwrite");
    });
    require(::fsync(fd) == 0, "fsync");
    ::close(fd);
  }

  void read_plain(const fs::path& path) {
    const int fd = open_file(path, O_RDONLY);
    each_block([&](std::byte* data, std::int64_t at, std::int64_t bytes) {
      require(::pread(fd, data, static_cast<std::size_t>(bytes), at) == bytes, "pread");
    });
    ::close(fd);
  }

  /// As many bytes of the file, cut as a checkpoint is: every array into one slice for each rank.
  void read_slices(const fs::path& path) {
    const int fd = open_file(path, O_RDONLY);
    std::int64_t array_at = 0;
    for (const SavedArray& a : arrays_.saved) {
      const std::int64_t slice_at = array_at + a.here.rows.first * a.cols * 4;
      for (std::int64_t done = 0; done < a.here.size() * 4; done += kBlockBytes) {
        const std::int64_t bytes = std::min(kBlockBytes, a.here.size() * 4 - done);
        auto* const to = static_cast<std::byte*>(a.values.data) + done;
        require(::pread(fd, to, static_cast<std::size_t>(bytes), slice_at + done) == bytes,
                "pread");
      }
      array_at += a.rows * a.cols * 4;
    }
    ::close(fd);
  }

  void write_mpi(const fs::path& path) {
    MPI_File file = MPI_FILE_NULL;
    require(MPI_File_open(MPI_COMM_WORLD, path.c_str(), MPI_MODE_CREATE | MPI_MODE_RDWR,
                          MPI_INFO_NULL, &file) == MPI_SUCCESS,
            "MPI_File_open");
    each_block([&](std::byte* data, std::int64_t at, std::int64_t bytes) {
      require(MPI_File_write_at_all(file, at, data, static_cast<int>(bytes), MPI_BYTE,
                                    MPI_STATUS_IGNORE) == MPI_SUCCESS,
              "MPI_File_write_at_all");
    });
    require(MPI_File_sync(file) == MPI_SUCCESS, "MPI_File_sync");
    MPI_File_close(&file);
  }

  void write_hdf5(const fs::path& path) {
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_mpio(access, MPI_COMM_WORLD, MPI_INFO_NULL);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
    H5Pset_all_coll_metadata_ops(access, true);
    H5Pset_coll_metadata_write(access, true);
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
    require(file >= 0, "H5Fcreate");
    const hid_t transfer = H5Pcreate(H5P_DATASET_XFER);
    H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
    for (const SavedArray& a : arrays_.saved) {
      const hsize_t extents[] = {static_cast<hsize_t>(a.rows), static_cast<hsize_t>(a.cols)};
      const hsize_t start[] = {static_cast<hsize_t>(a.here.rows.first), 0};
      const hsize_t count[] = {static_cast<hsize_t>(a.here.rows.count),
                               static_cast<hsize_t>(a.cols)};
      const hid_t whole = H5Screate_simple(2, extents, nullptr);
      const hid_t local = H5Screate_simple(2, count, nullptr);
      if (a.here.rows.count > 0) {
        H5Sselect_hyperslab(whole, H5S_SELECT_SET, start, nullptr, count, nullptr);
      } else {
        H5Sselect_none(whole);
        H5Sselect_none(local);
      }
      const hid_t dataset = H5Dcreate2(file, a.name.substr(6).c_str(), H5T_IEEE_F32LE, whole,
                                       H5P_DEFAULT, creation, H5P_DEFAULT);
      require(H5Dwrite(dataset, H5T_NATIVE_FLOAT, local, whole, transfer, a.values.data) >= 0,
              "H5Dwrite");
      H5Dclose(dataset);
      H5Sclose(local);
      H5Sclose(whole);
    }
    H5Pclose(creation);
    H5Pclose(transfer);
    H5Fflush(file, H5F_SCOPE_GLOBAL);
    H5Fclose(file);
    H5Pclose(access);
    const int fd = open_file(path, O_RDWR);
    require(::fsync(fd) == 0, "fsync");
    ::close(fd);
  }

  /// This rank's bytes of a file in which ranks lie one behind the other. All ranks have blocks of
  /// the same number, give or take the last rows: collective calls need that.
  void each_block(const std::function<void(std::byte*, std::int64_t, std::int64_t)>& visit) {
    auto* data = reinterpret_cast<std::byte*>(arrays_.memory.data());
    std::vector<std::int64_t> most = {arrays_.bytes()};
    ranks_.all_keep_largest(most, 1);
    for (std::int64_t done = 0; done < most[0]; done += kBlockBytes) {
      const std::int64_t bytes = std::clamp<std::int64_t>(arrays_.bytes() - done, 0, kBlockBytes);
      visit(data + std::min(done, arrays_.bytes()), first_byte_ + done, bytes);
    }
  }

  void forget(const fs::path& path) {
    const int fd = open_file(path, O_RDONLY);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }

  void print() {
    if (!ranks_.is_root()) return;
    std::printf("%d ranks, %.0f MiB, %d rounds in turn; GB/s\n%-48s %8s %8s\n", ranks_.size(),
                total_ / (1 << 20), kRounds, "", "best", "median");
    for (const std::string& name : names_) {
      std::vector<double>& seconds = seconds_[name];
      std::sort(seconds.begin(), seconds.end());
      std::printf("%-48s %8.2f %8.2f\n", name.c_str(), total_ / seconds.front() / 1e9,
                  total_ / seconds[seconds.size() / 2] / 1e9);
    }
  }

  const RankGroup& ranks_;
  HostAccess access_;
  fs::path folder_;
  Arrays arrays_;
  double total_ = 0;
  std::int64_t first_byte_ = 0;
  std::vector<std::string> names_;
  std::map<std::string, std::vector<double>> seconds_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: mpirun -np N bench_checkpoint FOLDER [MiB]\n");
    return 2;
  }
  try {
    const MpiEnv mpi(argc, argv);
    const std::int64_t mib = argc > 2 ? std::atoll(argv[2]) : 1024;
    Bench(mpi, argv[1], mib << 20).run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    MpiEnv::abort(ExitCode::failure);
  }
  return 0;
}
