// Stands in for koios in job_scripts_test.py: every rank says where it is and what it was given.
// With the argument "fail" rank 1 ends badly while the others wait for it.
#include <mpi.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, size = 0, local_size = 0;
  MPI_Comm node;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  MPI_Comm_size(node, &local_size);
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const char* threads = std::getenv("OMP_NUM_THREADS");
  std::string line = "rank " + std::to_string(rank) + "/" + std::to_string(size) + " of " +
                     std::to_string(local_size) + " on " + host +
                     " threads=" + (threads != nullptr ? threads : "");
  for (int i = 1; i < argc; ++i) line += std::string(" ") + argv[i];
  std::puts(line.c_str());
  std::fflush(stdout);
  if (argc > 1 && std::string(argv[1]) == "fail" && rank == 1) std::_Exit(3);
  int sum = 0;
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0) std::printf("sum %d\n", sum);
  MPI_Comm_free(&node);
  MPI_Finalize();
}
