// What Open MPI leaves on a node when its processes are killed.
#pragma once

#include <filesystem>
#include <string>

namespace koios {

/// Where Open MPI's files are, and whose are looked for (a test brings its own).
struct MpiLeftoverPlaces {
  std::filesystem::path segments = "/dev/shm";
  std::filesystem::path sessions;  // empty: where this job's launcher has its own
};

/// Removes the shared-memory segments (vader_segment.HOST.UID.JOB.RANK) and the launchers' session
/// folders (ompi.HOST.UID/pid.PID) of this user on this host whose processes have all ended; and
/// the folders of jobs without a launcher (ompi.HOST.UID/jf.NUMBER) and semaphores of MPI-IO
/// (sem.OMPIO_FILE) that are older than every process of this user with Open MPI in it. What a
/// process has open or mapped stays, and so does all of its job. Does nothing where processes may
/// be hidden from this one, as in a container. Never throws: what cannot be removed stays.
void remove_mpi_leftovers(const std::string& host, const MpiLeftoverPlaces& places = {}) noexcept;

}  // namespace koios
