#!/usr/bin/env bash
# PBS (OpenPBS, PBS Pro, Torque), submitted from the repository's top folder:
#   qsub -v ARGS="input/llama2_7b.ini checkpoint/folder=checkpoints" jobs/pbs.sh
# koios saves and stops before the job's time is over; the script then submits itself again, until the
# last step is done. To end it: `touch STOP` in the run folder, or qdel.
# The run folder (job/dump_folder) has to be on a file system that all nodes share.
#
# ---- edit ----------------------------------------------------------------------------------------
#PBS -N koios
#PBS -l select=2:ncpus=96:mpiprocs=8:ompthreads=12
##PBS -l select=2:ncpus=96:mpiprocs=8:ompthreads=12:ngpus=8
#PBS -l walltime=24:00:00
#PBS -j oe
##PBS -q ...
##PBS -A ...
: "${OMP_NUM_THREADS:=12}"          # threads of a rank: cores of a node / ranks a node
# ---- (modules, network: jobs/env.sh) -------------------------------------------------------------
set -euo pipefail
cd "$PBS_O_WORKDIR"
[[ -f jobs/launch.sh ]] || { echo "submit from the repository's top folder" >&2; exit 2; }
source jobs/env.sh
source jobs/launch.sh

# One line of the node file for each rank. An mpirun that was built with PBS support knows the nodes
# by itself and takes this for the same list.
export OMP_NUM_THREADS
ranks=$(wc -l <"$PBS_NODEFILE")
left=$(time_left)
read -ra arguments <<<"${ARGS:-}"
code=0
launch mpirun --hostfile "$PBS_NODEFILE" -n "$ranks" --bind-to none -x OMP_NUM_THREADS \
  "$KOIOS" "${arguments[@]}" ${left:+-t "$left"} || code=$?

if ((code == 99)); then
  echo "[job] submits itself again"
  qsub -v ARGS="${ARGS:-}" jobs/pbs.sh
fi
exit "$code"
