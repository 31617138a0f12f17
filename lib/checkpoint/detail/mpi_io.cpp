#include "checkpoint/detail/mpi_io.hpp"

#include <mpi.h>

#include <array>

#include "core/error.hpp"

namespace koios::checkpoint {
namespace {

/// "Open MPI v4.1.4" of "Open MPI v4.1.4, package: ...".
std::string library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text = {};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  const std::string whole(text.data());
  return whole.substr(0, whole.find_first_of(",\n"));
}

/// ROMIO, which most MPIs use, adds hints of its own to every file.
bool is_romio(MPI_File file) {
  MPI_Info info = MPI_INFO_NULL;
  if (MPI_File_get_info(file, &info) != MPI_SUCCESS) return false;
  int keys = 0;
  MPI_Info_get_nkeys(info, &keys);
  bool found = false;
  for (int i = 0; i < keys; ++i) {
    std::array<char, MPI_MAX_INFO_KEY + 1> key = {};
    MPI_Info_get_nthkey(info, i, key.data());
    found = found || std::string(key.data()).starts_with("romio_");
  }
  MPI_Info_free(&info);
  return found;
}

std::string error_text(int error) {
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  MPI_Error_string(error, text.data(), &length);
  return text.data();
}

}  // namespace

std::string describe_mpi_io(const std::filesystem::path& folder) {
  // A name that the next start would clear away as a save that was not finished.
  const std::string path = folder / "step_mpi_io.h5.partial";
  MPI_File file = MPI_FILE_NULL;
  const int mode = MPI_MODE_CREATE | MPI_MODE_RDWR | MPI_MODE_DELETE_ON_CLOSE;
  const int error = MPI_File_open(MPI_COMM_SELF, path.c_str(), mode, MPI_INFO_NULL, &file);
  if (error != MPI_SUCCESS) {
    throw UserError(cat("[checkpoint] io = parallel_hdf5: MPI cannot open files in ",
                        folder.string(), " (", error_text(error), "): take io = direct"));
  }
  const bool romio = is_romio(file);
  MPI_File_close(&file);
  const bool is_open_mpi = library().starts_with("Open MPI");
  return cat(library(), ", component ", romio ? "ROMIO" : (is_open_mpi ? "OMPIO" : "unknown"));
}

}  // namespace koios::checkpoint
