# What this site needs, sourced by every job script: the only file in jobs/ to change for a site.

# The program, from the repository's top folder or absolute. For the CUDA build: build/cuda/app/koios
: "${KOIOS:=build/host/app/koios}"

# The modules with which Koios was built.
# module purge
# module load gcc openmpi hdf5-parallel cuda nccl

# Which network carries traffic between nodes, where it is not found by itself.
# export OMPI_MCA_btl_tcp_if_include=ib0
# export NCCL_SOCKET_IFNAME=ib0

# NCCL: errors in the log; larger buffers can help between nodes.
# export NCCL_DEBUG=WARN
# export NCCL_BUFFSIZE=2097152
